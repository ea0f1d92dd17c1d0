package main

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/qos"
)

func TestParseSpan(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"0": 0, "30": 30 * time.Second, "0.5": 500 * time.Millisecond, "1m": time.Minute, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "-0": 0,
	} {
		got, err := parseSpan(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "x", "-1", "-1s", "NaN", "Inf", "1e300", "1 s"} {
		_, err := parseSpan(in)
		require.Error(t, err, in)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"topic", "timeout", "qos", "pub", "sub"}
	for typed, want := range map[string]string{"topics": "topic", "timeuot": "timeout", "pbu": "pub", "xyz": "", "messages": "", "q": ""} {
		require.Equal(t, want, nearest(typed, names), typed)
	}
}

func TestParseUserProperty(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]autopaho.UserProperty{
		"a=b":    {Name: "a", Value: "b"},
		"a=":     {Name: "a"},
		"a=b=c":  {Name: "a", Value: "b=c"},
		"a: b":   {Name: "a", Value: "b"},
		"a: b=c": {Name: "a", Value: "b=c"},
		"a=b: c": {Name: "a", Value: "b: c"},
		"a:b=c":  {Name: "a:b", Value: "c"},
	} {
		got, err := parseUserProperty(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "a", "=b", ": b", "a=\xff", "a\x00=b"} {
		_, err := parseUserProperty(in)
		require.Error(t, err, in)
	}
}

func FuzzUserProperty(f *testing.F) {
	for _, s := range []string{"a=b", "a: b", "=", "a=b: c", "\xff=", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseUserProperty(s)
		if err != nil {
			if !utf8.ValidString(err.Error()) || len(err.Error()) > 400 {
				t.Fatalf("error %q", err)
			}
			return
		}
		if p.Name == "" || qos.ValidateString("name", p.Name) != nil || qos.ValidateString("value", p.Value) != nil {
			t.Fatalf("%q gave %+v", s, p)
		}
		if s != p.Name+"="+p.Value && s != p.Name+": "+p.Value {
			t.Fatalf("%q gave %+v", s, p)
		}
	})
}

func FuzzPublishProperty(f *testing.F) {
	for _, s := range []string{"publish content-type a", "publish user-property a b", "connect x y", "publish", "", "publish message-expiry-interval -1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words := strings.Split(s, " ")
		n := propertyWords(words)
		if n > len(words) || n > 4 {
			t.Fatalf("%q: %d words", s, n)
		}
		var m autopaho.Message
		err := property(&m, func() []*option { return nil })(strings.Join(words[:n], wordSeparator))
		if err != nil {
			return
		}
		m.Topic = "a"
		if m.Properties.ResponseTopic != "" && qos.ValidateTopic(m.Properties.ResponseTopic) != nil ||
			qos.ValidateString("", m.Properties.ContentType) != nil || m.Expiry < 0 {
			t.Fatalf("%q gave %+v", s, m)
		}
	})
}

// received is a message as -F may meet it.
func received() *autopaho.Received {
	m := &autopaho.Received{Dup: true, PacketID: 7, Group: "g", At: time.Date(2026, 2, 3, 4, 5, 6, 789000000, time.UTC)}
	m.Topic, m.Payload, m.QoS, m.Retain, m.ID, m.Expiry = "a/ä", []byte(`{"n":1}`), 1, true, "m-1", time.Minute
	m.Properties.ContentType, m.Properties.ResponseTopic, m.Properties.CorrelationData, m.Properties.UTF8 = "t/p", "r", []byte("c"), true
	m.Properties.User = []autopaho.UserProperty{{Name: "k", Value: "v"}, {Name: "l", Value: "w"}}
	return m
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                         "",
		"plain":                    "plain",
		"%t %p":                    `a/ä {"n":1}`,
		"%l %x %X":                 "7 7b226e223a317d 7B226E223A317D",
		"%q%r%d %m %i":             "111 7 m-1",
		"%C|%R|%D|%E|%F|%P|%A|%S":  "t/p|r|c|60|1|k:v l:w||",
		"100%%":                    "100%",
		"%I %U":                    "2026-02-03T04:05:06+0000 1770091506.789000000",
		"@Y-@m-@d @H:@M:@S.@N @@":  "2026-02-03 04:05:06.789000000 @",
		"@a @A @b @B @j @e @y @p":  "Tue Tuesday Feb February 034  3 26 AM",
		"@s @F @T @R @D @I @z @Z":  "1770091506 2026-02-03 04:05:06 04:05 02/03/26 04 +0000 UTC",
		`a\n\t\\\0\e\a`:            "a\n\t\\\x00\x1b\a",
		"[%6t][%-6t][%.2t][%2.1t]": "[   a/ä][a/ä   ][a/][ a]",
		"[%05l][%-5l][%5l]":        "[00007][7    ][    7]",
		"[%10p]":                   `[   {"n":1}]`,
	} {
		f, err := parseFormat(in)
		require.NoError(t, err, in)
		got, ok := f.append(nil, received())
		require.True(t, ok)
		require.Equal(t, want, string(got), in)
	}
	for in, want := range map[string]string{
		"%": "ends within", "%5": "ends within", "%k": "%k is not a sequence", "%5j": "takes no width", "@": "ends with @", "@Q": "@Q is not a sequence",
		`\`: `ends with \`, `\q`: `\q is not a sequence`, "%99999t": "a width is at most", "%\xff": "is not a sequence",
	} {
		_, err := parseFormat(in)
		require.ErrorContains(t, err, want, in)
	}
}

func TestFormatJSON(t *testing.T) {
	t.Parallel()
	f, err := parseFormat("%J")
	require.NoError(t, err)
	got, ok := f.append(nil, received())
	require.True(t, ok)
	require.Equal(t, `{"tst":"2026-02-03T04:05:06.789000+0000","topic":"a/ä","qos":1,"retain":1,"payloadlen":7,"mid":7,`+
		`"properties":{"user-properties":{"k":"v","l":"w"},"content-type":"t/p","correlation-data":"c","response-topic":"r",`+
		`"payload-format-indicator":1,"message-expiry-interval":60},"payload":{"n":1},"id":"m-1","dup":1,"group":"g"}`, string(got))
	m := received()
	m.Properties.User = append(m.Properties.User, autopaho.UserProperty{Name: "k", Value: "x"})
	got, _ = f.append(nil, m)
	require.Contains(t, string(got), `"user-properties":{"k":["v","x"],"l":"w"}`)
	m.Payload = []byte("no JSON <&>")
	got, ok = f.append(nil, m)
	require.False(t, ok)
	require.Contains(t, string(got), `"payload":"no JSON <&>"`)
}

func FuzzFormat(f *testing.F) {
	for _, s := range []string{"%t %p", "%-010.5t", "@Y@@", `\n\0`, "%", "%%", "%j%J", "\xff%\xff", "%9999p"} {
		f.Add(s, []byte("payload"))
	}
	f.Fuzz(func(t *testing.T, s string, payload []byte) {
		format, err := parseFormat(s)
		if err != nil {
			return
		}
		m := received()
		m.Payload = payload
		format.append(nil, m)
	})
}

// FuzzMessageJSON: whatever comes from outside, --json prints one line of valid
// JSON that holds it.
func FuzzMessageJSON(f *testing.F) {
	f.Add("a", []byte("x"), "k", "v")
	f.Add("a\n", []byte{0xff}, "k", "\u2028")
	f.Fuzz(func(t *testing.T, topic string, payload []byte, name, value string) {
		if !utf8.ValidString(topic) || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return // refused before
		}
		m := received()
		m.Topic, m.Payload = topic, payload
		m.Properties.User = []autopaho.UserProperty{{Name: name, Value: value}, {Name: name, Value: "2"}, {Name: "x" + name, Value: value}}
		line := appendObject(nil, m, false)
		var got struct{ Topic string }
		if err := json.Unmarshal(line, &got); err != nil || strings.ContainsRune(string(line), '\n') {
			t.Fatalf("%v in %s", err, line)
		}
		var back struct {
			Payload       *string
			PayloadBase64 []byte `json:"payload_base64"`
		}
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatal(err)
		}
		if back.Payload != nil {
			back.PayloadBase64 = []byte(*back.Payload)
		}
		if string(back.PayloadBase64) != string(payload) || got.Topic != topic {
			t.Fatalf("%s", line)
		}
	})
}

// FuzzBrokerURL: what is wrong with a URL is told in a line without its user
// information, and what is accepted goes on without it.
func FuzzBrokerURL(f *testing.F) {
	for _, s := range []string{"mqtt://h", "mqtts://u:p@h:1/t", "ws://h/mqtt?x=y", "unix:///run/x", "mqtt://%zz@h", "://", "mqtt://[::1]:1/a/b", "mqtt://u:p@"} {
		f.Add(s, "secret")
	}
	f.Fuzz(func(t *testing.T, raw, password string) {
		for _, s := range []string{raw, strings.Replace(raw, "://", "://u5er:"+password+"@", 1)} {
			o := &connectionOptions{urls: []string{s}}
			o.options(true)
			o.urls = []string{s}
			got, err := o.target()
			if err != nil {
				if strings.Contains(err.Error(), "u5er") && s != raw {
					t.Fatalf("%q: %v", s, err)
				}
				continue
			}
			for _, server := range got.servers {
				u, err := url.Parse(server)
				if err != nil || u.User != nil {
					t.Fatalf("%q gave %q", s, server)
				}
			}
		}
	})
}

func FuzzSpan(f *testing.F) {
	for _, s := range []string{"1", "1.5", "1h", "-1", "1e9", "9223372036854775807", "-0s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseSpan(s); err == nil && d < 0 {
			t.Fatalf("%q gave %s", s, d)
		}
	})
}

// nothing is the Action of a command whose options alone are looked at.
func nothing(*cli.Context) error { return nil }
