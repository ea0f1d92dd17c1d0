package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// What sub --json prints is what pub --ndjson takes: a stream is copied, with the
// message IDs by which who hears both knows a message again.
func TestPubNDJSONCopies(t *testing.T) {
	t.Parallel()
	sent := autopaho.Message{
		Topic: "a/b", QoS: 2, Payload: []byte("\xff\x00 x"), ID: "m-1", Expiry: time.Hour,
		Properties: persist.Properties{
			ContentType: "t/p", UTF8: true, ResponseTopic: "r", CorrelationData: []byte{0xfe},
			User: []autopaho.UserProperty{{Name: "n", Value: "1"}, {Name: "o", Value: ""}, {Name: "n", Value: "2"}, {Name: "ordering-key", Value: "k"}},
		},
	}
	line := string(appendObject(nil, &autopaho.Received{Message: sent, At: time.Now()}, false))
	b := startBroker(t, brokertest.Options{})
	got := runOnce(t, invocation{
		args:  []string{"pub", "-L", b.URL(), "-t", "other", "--ndjson", "-H", "mine=1"},
		stdin: strings.NewReader(line + "\n" + `{"payload":{"v":1},"qos":0,"retain":1}` + "\n" + `{"topic":"c","payload":null}`),
	})
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "3 stored, 3 delivered, 0 failed, 0 expired\n", got.stderr)
	all := b.FirstArrivals("a/b")
	require.Len(t, all, 1)
	require.Equal(t, "m-1", all[0].MessageID)
	p := all[0].Packet
	require.Equal(t, string(sent.Payload), string(p.Payload))
	require.EqualValues(t, 2, p.QoS)
	for _, part := range []string{"t/p", `"o"=""`, `"n"="1"`, `"n"="2"`, `"ordering-key"="k"`} {
		require.Contains(t, p.String(), part)
	}
	require.NotContains(t, p.String(), "mine", "a line's properties take the place of the options'")

	all = b.FirstArrivals("other")
	require.Len(t, all, 1)
	require.JSONEq(t, `{"v":1}`, string(all[0].Packet.Payload))
	require.EqualValues(t, 1, all[0].Packet.QoS)
	require.True(t, all[0].Packet.Retain)
	require.Contains(t, all[0].Packet.String(), `"mine"="1"`)
	require.Equal(t, []string{""}, payloads(b, "c"))
}

// What others publish is copied as well, though this client would not publish it: a
// user property without a name, an ID that is too long for an outbox, and text of
// which each byte is escaped.
func TestPubNDJSONCopiesWhatOthersPublish(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("i", 300)
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(long)))
	var lines []byte
	for i, m := range []autopaho.Message{
		{Properties: persist.Properties{User: []autopaho.UserProperty{{Name: "", Value: "v"}, {Name: "", Value: "w"}}}},
		{ID: long, Properties: persist.Properties{User: []autopaho.UserProperty{{Name: "message-id", Value: long}, {Name: "n", Value: "1"}}}},
		{Properties: persist.Properties{User: []autopaho.UserProperty{{Name: "message-id", Value: long + "2"}}}},
		{Payload: make([]byte, maxPayload)},
	} {
		m.Topic, m.QoS = fmt.Sprintf("copy/%d", i), 1
		lines = append(appendObject(lines, &autopaho.Received{Message: m, At: time.Now()}, false), '\n')
	}
	b := startBroker(t, brokertest.Options{})
	got := runOnce(t, invocation{args: []string{"pub", "-L", b.URL(), "--ndjson"}, stdin: bytes.NewReader(lines)})
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "4 stored, 4 delivered, 0 failed, 0 expired\n", got.stderr)
	first := func(topic string) *brokertest.Packet {
		all := b.FirstArrivals(topic)
		require.Len(t, all, 1, topic)
		return all[0].Packet
	}
	require.Contains(t, first("copy/0").String(), `""="v"`)
	require.Contains(t, first("copy/0").String(), `""="w"`)
	require.Equal(t, hash, first("copy/1").MessageID())
	require.Contains(t, first("copy/1").String(), `"n"="1"`)
	require.Len(t, first("copy/2").MessageID(), len(hash))
	require.NotEqual(t, hash, first("copy/2").MessageID())
	require.Len(t, first("copy/3").Payload, maxPayload)
}

// Lines of one ID are one message as long as it is in the outbox.
func TestPubNDJSONDuplicates(t *testing.T) {
	t.Parallel()
	got := runOnce(t, invocation{
		args:  []string{"pub", "-L", nobody, "--no-wait", "--ndjson", "--json", "--store", fileStore(t)},
		stdin: strings.NewReader(strings.Repeat(`{"topic":"a","id":"same"}`+"\n", 3)),
	})
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "1 stored, 0 delivered, 0 failed, 0 expired, 2 duplicates\n", got.stderr)
	require.Equal(t, 2, strings.Count(got.stdout, `{"event":"duplicate","id":"same","topic":"a"}`))
}

// A line that cannot be published ends the run, and says which and why. What came
// before it is stored, and nothing after it.
func TestPubNDJSONRefuses(t *testing.T) {
	t.Parallel()
	dir, number := t.TempDir(), 0
	for line, want := range map[string]string{
		"":                             "is empty, and must be a JSON object",
		"x":                            "is not JSON: invalid character 'x' looking for beginning of value",
		`[1]`:                          "is [1], and must be a JSON object",
		`"a"`:                          `is "a", and must be a JSON object`,
		`{"a"`:                         "ends within its JSON object",
		`{"a":`:                        "ends within its JSON object",
		`{"topic":"a"}{`:               "has more after its JSON object; write one object a line",
		`{"topc":"a"}`:                 "topc: is not a known key; did you mean topic?",
		`{"topic":"a","topic":"a"}`:    "topic: stands twice",
		`{"payload":"x"}`:              "topic: is missing; give it in the line, or to all lines by -t",
		`{"topic":"a/#"}`:              `topic: "a/#" has the wildcard # at byte 2; a message goes to one topic, without # and +`,
		`{"topic":5}`:                  "topic: is 5, and must be a string",
		`{"topic":"a","id":""}`:        "id: is empty",
		`{"topic":"a","qos":3}`:        "qos: is 3; use 0, 1 or 2",
		`{"topic":"a","retain":"yes"}`: `retain: is "yes"; use 0 or 1`,
		`{"topic":"a","payload":1,"payload_base64":""}`:                           "payload: cannot stand beside payload_base64; a message has one payload",
		`{"topic":"a","payload_base64":"?"}`:                                      "payload_base64: is not base64",
		`{"topic":"a","properties":7}`:                                            "properties: is 7, and must be a JSON object",
		`{"topic":"a","properties":{"content-typ":""}}`:                           "properties.content-typ: is not a known key; did you mean content-type?",
		`{"topic":"a","properties":{"message-expiry-interval":-1}}`:               "properties.message-expiry-interval: is -1; use 1 to 4294967295 seconds",
		`{"topic":"a","properties":{"user-properties":{"n":1}}}`:                  "properties.user-properties.n: is 1, and must be a string, or an array of strings",
		`{"topic":"a","properties":{"response-topic":"+"}}`:                       `properties.response-topic: "+" has the wildcard + at byte 0; a message goes to one topic, without # and +`,
		`{"topic":"a","properties":{"correlation-data":[1]}}`:                     "properties.correlation-data: is [1], and must be a string",
		`{"topic":"a","properties":{"payload-format-indicator":2}}`:               "properties.payload-format-indicator: is 2; use 0 or 1",
		"{\"topic\":\"a\",\"payload\":\"\\u0001\xff\x80A\"}":                      "payload: is not UTF-8; give it in base64, as payload_base64",
		`{"topic":"a","payload":"\ud800x"}`:                                       "payload: has an escaped half of a surrogate pair without the other half, which is no UTF-8; give it in base64, as payload_base64",
		"{\"topic\":\"t\xff\"}":                                                   "topic: is not UTF-8",
		"{\"topic\":\"a\",\"payload_base64\":\"\xff\"}":                           "payload_base64: is not UTF-8",
		"{\"topic\":\"a\",\"\xff\":1}":                                            `"�": the key is not UTF-8`,
		"{\"topic\":\"a\",\"properties\":{\"correlation-data\":\"\xff\"}}":        "properties.correlation-data: is not UTF-8; give it in base64, as correlation-data_base64",
		"{\"topic\":\"a\",\"properties\":{\"user-properties\":{\"n\":\"\xff\"}}}": "properties.user-properties.n: is not UTF-8",
		`{"topic":"a","properties":{"user-properties":{"n":["","\udc00"]}}}`:      "properties.user-properties.n: has an escaped half of a surrogate pair without the other half, which is no UTF-8",
		"{\"topic\":\"a\",\"properties\":{\"user-properties\":{\"\xff\":\"\"}}}":  `properties.user-properties."�": the key is not UTF-8`,
		`{"topic":"a","payload":"` + strings.Repeat("x", maxPayload+1) + `"}`:     "payload: 1048577 bytes are over the limit of 1048576",
	} {
		number++
		store := fmt.Sprintf("sqlite:%s/%d.db", dir, number)
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, invocation{
				args:  []string{"pub", "-L", nobody, "--no-wait", "--ndjson", "--json", "--store", store},
				stdin: strings.NewReader(`{"topic":"before"}` + "\n" + line + "\n" + `{"topic":"after"}`),
			})
			require.Equal(t, exitFailed, got.code)
			require.Equal(t, "oncemq pub: line 2 of standard input: "+want+"; this line and what follows were not published\n"+
				"1 stored, 0 delivered, 0 failed, 0 expired\n", got.stderr)
			require.Equal(t, 1, strings.Count(got.stdout, "\n"))
			require.Contains(t, got.stdout, `"topic":"before"`)
		})
	}
}

// U+FFFD is what a decoder puts in place of what is not UTF-8; a payload may have it all
// the same, and surrogate pairs.
func TestReadObjectIsExact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"\uFFFD":                           "\uFFFD",
		`\ufffd\uFFFD`:                     "\uFFFD\uFFFD",
		"\uFFFD" + `\ud83d\ude00\\ud800\\`: "\uFFFD\U0001F600" + `\ud800\`,
	} {
		var m autopaho.Message
		require.NoError(t, readObject([]byte(`{"topic":"a","payload":"`+in+`"}`), &m))
		require.Equal(t, want, string(m.Payload))
	}
	var m autopaho.Message
	require.NoError(t, readObject([]byte("{\"topic\":\"a\",\"payload\":{\"v\":\"\xff\"}}"), &m))
	require.Equal(t, "{\"v\":\"\xff\"}", string(m.Payload), "what is not a string is taken byte by byte")
}

// What the line does not show, but the client refuses: an expiry in the line that
// the delay of the options goes beyond.
func TestPubNDJSONRefusedByTheClient(t *testing.T) {
	t.Parallel()
	good := strings.Repeat(`{"topic":"a"}`+"\n", 7)
	got := runOnce(t, invocation{
		args:  []string{"pub", "-L", nobody, "--no-wait", "--ndjson", "--delay", "1h", "--store", "sqlite:" + filepath.Join(t.TempDir(), "p.db")},
		stdin: strings.NewReader(good + `{"topic":"a","properties":{"message-expiry-interval":60}}` + "\n" + good),
	})
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stderr, "line 8 of standard input: ")
	require.Contains(t, got.stderr, "delay: 1h0m0s is not less than the expiry, 1m0s")
	require.Contains(t, got.stderr, "\n7 stored, 0 delivered, 0 failed, 0 expired\n")
}

func TestPubNDJSONOptions(t *testing.T) {
	t.Parallel()
	for option, want := range map[string]string{
		"-q 0":            "--qos: 0 cannot stand beside --ndjson, which keeps what it reads until it is acknowledged; use 1 or 2",
		"-l":              "--stdin-line: cannot stand beside --ndjson; a message has one payload",
		"--repeat 2":      "--repeat: cannot stand beside --ndjson, which is read once",
		"--message-id m1": "--message-id: names one message; it cannot stand beside --stdin-line, --ndjson or --repeat",
	} {
		got := runOnce(t, invocation{args: append([]string{"pub", "--ndjson"}, strings.Fields(option)...)})
		require.Equal(t, exitUsage, got.code)
		require.Contains(t, got.stderr, want)
	}
}

func FuzzReadObject(f *testing.F) {
	f.Add(`{"topic":"a","payload":"x","qos":1,"retain":0,"id":"m","properties":{"user-properties":{"n":["1","2"]}}}`)
	f.Add(`{"topic":"a","payload_base64":"//4="}`)
	f.Fuzz(func(t *testing.T, line string) {
		m := autopaho.Message{QoS: 1}
		err := readObject([]byte(line), &m)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.True(t, json.Valid([]byte(line)))
		require.NotEmpty(t, m.Topic)
		require.LessOrEqual(t, m.QoS, byte(2))
		// What was read is printed so that it is read again as the same.
		if !utf8.ValidString(line) {
			return
		}
		var again autopaho.Message
		again.QoS = 1
		require.NoError(t, readObject(appendObject(nil, &autopaho.Received{Message: m}, false), &again))
		require.Equal(t, m.Topic, again.Topic)
		require.Equal(t, string(m.Payload), string(again.Payload))
		require.Equal(t, m.Retain, again.Retain)
		require.Equal(t, m.Expiry, again.Expiry)
	})
}
