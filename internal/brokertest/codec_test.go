package brokertest_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// samples has a packet of each type and form.
func samples() []brokertest.Packet {
	user := brokertest.UserProperty("key", "välue")
	out := []brokertest.Packet{
		{Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: "c"}},
		{Type: brokertest.CONNECT, Properties: brokertest.Properties{
			brokertest.SessionExpiryInterval(0xFFFFFFFF), brokertest.ReceiveMaximum(20), brokertest.MaximumPacketSize(1 << 20), user, user,
			brokertest.Num(brokertest.PropTopicAliasMaximum, 3), brokertest.Num(brokertest.PropRequestProblemInformation, 1),
			brokertest.Str(brokertest.PropAuthenticationMethod, "m"), brokertest.Str(brokertest.PropAuthenticationData, "\x00\xff"),
		}, Connect: &brokertest.Connect{
			CleanStart: true, KeepAlive: 30, ClientID: "c", Username: new("u"), Password: new("p"),
			Will: &brokertest.Will{
				QoS: 2, Retain: true, Topic: "will", Payload: []byte("gone"),
				Properties: brokertest.Properties{brokertest.Num(brokertest.PropWillDelayInterval, 5), user},
			},
		}},
		{Type: brokertest.CONNACK, SessionPresent: true},
		{Type: brokertest.CONNACK, Code: 0x87, Properties: brokertest.Properties{
			brokertest.MaximumQoS(1), brokertest.RetainAvailable(false), brokertest.ServerKeepAlive(7),
			brokertest.AssignedClientIdentifier("a"), brokertest.ReasonString("no"),
		}},
		{Type: brokertest.PUBLISH, Topic: "a/b"},
		{Type: brokertest.PUBLISH, Topic: "a/b", QoS: 1, PacketID: 0xFFFF, DUP: true, Retain: true, Payload: bytes.Repeat([]byte{0}, 300)},
		{Type: brokertest.PUBLISH, Topic: "", QoS: 2, PacketID: 1, Payload: []byte("x"), Properties: brokertest.Properties{
			brokertest.TopicAlias(4), brokertest.MessageExpiryInterval(9), user,
			brokertest.SubscriptionIdentifier(1), brokertest.SubscriptionIdentifier(268_435_455),
			brokertest.Str(brokertest.PropContentType, "text/plain"), brokertest.Num(brokertest.PropPayloadFormatIndicator, 1),
			brokertest.Str(brokertest.PropResponseTopic, "r"), brokertest.Str(brokertest.PropCorrelationData, "\xff"),
		}},
		{Type: brokertest.SUBSCRIBE, PacketID: 5, Properties: brokertest.Properties{brokertest.SubscriptionIdentifier(128)}, Filters: []brokertest.Filter{
			{Topic: "#", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}, {Topic: "$share/g/a/+"},
		}},
		{Type: brokertest.SUBACK, PacketID: 5, Codes: []byte{2, 0x87}},
		{Type: brokertest.UNSUBSCRIBE, PacketID: 5, Filters: []brokertest.Filter{{Topic: "#"}, {Topic: "a"}}},
		{Type: brokertest.UNSUBACK, PacketID: 5, Codes: []byte{0, 0x11}},
		{Type: brokertest.PINGREQ},
		{Type: brokertest.PINGRESP},
	}
	for _, t := range []brokertest.Type{
		brokertest.PUBACK, brokertest.PUBREC, brokertest.PUBREL, brokertest.PUBCOMP, brokertest.DISCONNECT, brokertest.AUTH,
	} {
		var id uint16
		if t < brokertest.DISCONNECT {
			id = 7
		}
		out = append(out,
			brokertest.Packet{Type: t, PacketID: id},
			brokertest.Packet{Type: t, PacketID: id, Form: brokertest.FormCode},
			brokertest.Packet{Type: t, PacketID: id, Form: brokertest.FormFull},
			brokertest.Packet{Type: t, PacketID: id, Code: 0x82},
			brokertest.Packet{Type: t, PacketID: id, Properties: brokertest.Properties{brokertest.ReasonString("why"), user}},
		)
	}
	return out
}

func TestEncodeAndDecodeAgree(t *testing.T) {
	t.Parallel()
	for _, p := range samples() {
		encoded := p.Encode()
		raw, err := brokertest.ReadRaw(bytes.NewReader(encoded))
		require.NoError(t, err)
		require.Equal(t, encoded, raw)
		got, err := brokertest.Decode(raw)
		require.NoError(t, err, "%s", &p)
		require.Equal(t, encoded, got.Encode())
		require.Equal(t, p.String(), got.String())
		require.Equal(t, p.PacketID, got.PacketID)
		require.Equal(t, p.Code, got.Code)
		require.Equal(t, p.Properties, got.Properties)
		require.Equal(t, p.Filters, got.Filters)
		if p.Type != brokertest.CONNECT {
			continue
		}
		want := *p.Connect
		want.ProtocolName, want.ProtocolVersion = "MQTT", 5
		require.Equal(t, want, *got.Connect)
	}
}

// Two codecs that share no code read the same packets.
func TestPahoReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	for _, p := range samples() {
		if raw := p.Encode(); p.Type == brokertest.DISCONNECT && len(raw) == 2 {
			continue // paho v0.23.0 answers EOF to one of remaining length 0
		}
		theirs, err := packets.ReadPacket(bytes.NewReader(p.Encode()))
		require.NoError(t, err, "%s", &p)
		require.Equal(t, byte(p.Type), theirs.Type)
		var again bytes.Buffer
		_, err = theirs.WriteTo(&again)
		require.NoError(t, err)
		ours, err := brokertest.Decode(again.Bytes())
		require.NoError(t, err, "%s: % X", &p, again.Bytes())
		require.Equal(t, p.PacketID, ours.PacketID)
		require.Equal(t, p.Code, ours.Code)
		require.Equal(t, p.Topic, ours.Topic)
		require.Equal(t, p.Codes, ours.Codes)
		require.ElementsMatch(t, p.Filters, ours.Filters)
		if p.Connect != nil {
			require.Equal(t, p.Connect.ClientID, ours.Connect.ClientID)
			require.Equal(t, p.Connect.Username, ours.Connect.Username)
			require.Equal(t, p.Connect.Will == nil, ours.Connect.Will == nil)
		}
		if len(p.Properties.SubscriptionIdentifiers()) < 2 { // paho keeps only one
			require.ElementsMatch(t, p.Properties, ours.Properties)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	frame := func(typ brokertest.Type, flags byte, body string) []byte {
		return brokertest.Frame(typ, flags, []byte(body))
	}
	for name, raw := range map[string][]byte{
		"nothing":                   {},
		"one byte":                  {0xC0},
		"type 0":                    {0, 0},
		"flags of PINGREQ":          {0xC1, 0},
		"flags of PUBREL":           frame(brokertest.PUBREL, 0, "\x00\x01"),
		"body too short":            {0xC0, 1},
		"body too long":             {0xC0, 0, 0},
		"PINGREQ with a body":       frame(brokertest.PINGREQ, 0, "x"),
		"long remaining length":     {0xC0, 0x80, 0},
		"QoS 3":                     frame(brokertest.PUBLISH, 6, "\x00\x01t\x00\x01\x00"),
		"DUP with QoS 0":            frame(brokertest.PUBLISH, 8, "\x00\x01t\x00"),
		"packet identifier 0":       frame(brokertest.PUBLISH, 2, "\x00\x01t\x00\x00\x00"),
		"topic with #":              frame(brokertest.PUBLISH, 0, "\x00\x01#\x00"),
		"topic with +":              frame(brokertest.PUBLISH, 0, "\x00\x01+\x00"),
		"topic not UTF-8":           frame(brokertest.PUBLISH, 0, "\x00\x01\xff\x00"),
		"topic with a surrogate":    frame(brokertest.PUBLISH, 0, "\x00\x03\xed\xa0\x80\x00"),
		"topic with NUL":            frame(brokertest.PUBLISH, 0, "\x00\x01\x00\x00"),
		"no topic":                  frame(brokertest.PUBLISH, 0, "\x00\x00\x00"),
		"topic alias 0":             frame(brokertest.PUBLISH, 0, "\x00\x01t\x03\x23\x00\x00"),
		"response topic with #":     frame(brokertest.PUBLISH, 0, "\x00\x01t\x04\x08\x00\x01#"),
		"unknown property":          frame(brokertest.PUBLISH, 0, "\x00\x01t\x02\x7f\x00"),
		"misplaced property":        frame(brokertest.PUBLISH, 0, "\x00\x01t\x03\x21\x00\x01"),
		"property twice":            frame(brokertest.PUBLISH, 0, "\x00\x01t\x04\x01\x01\x01\x01"),
		"property out of range":     frame(brokertest.PUBLISH, 0, "\x00\x01t\x02\x01\x02"),
		"property cut off":          frame(brokertest.PUBLISH, 0, "\x00\x01t\x02\x02\x00"),
		"property length too large": frame(brokertest.PUBLISH, 0, "\x00\x01t\x09\x01\x01"),
		"property length too long":  frame(brokertest.PUBLISH, 0, "\x00\x01t\x80\x00"),
		"SUBSCRIBE without filter":  frame(brokertest.SUBSCRIBE, 2, "\x00\x01\x00"),
		"empty filter":              frame(brokertest.SUBSCRIBE, 2, "\x00\x01\x00\x00\x00\x00"),
		"subscription options":      frame(brokertest.SUBSCRIBE, 2, "\x00\x01\x00\x00\x01t\x03"),
		"retain handling 3":         frame(brokertest.SUBSCRIBE, 2, "\x00\x01\x00\x00\x01t\x30"),
		"MQTT 3.1.1":                frame(brokertest.CONNECT, 0, "\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"),
		"reserved connect flag":     frame(brokertest.CONNECT, 0, "\x00\x04MQTT\x05\x01\x00\x00\x00\x00\x00"),
		"will flags without will":   frame(brokertest.CONNECT, 0, "\x00\x04MQTT\x05\x20\x00\x00\x00\x00\x00"),
		"PUBACK without identifier": frame(brokertest.PUBACK, 0, "\x01"),
	} {
		_, err := brokertest.Decode(raw)
		require.ErrorIs(t, err, brokertest.ErrMalformed, name)
	}
}

func TestReadRaw(t *testing.T) {
	t.Parallel()
	_, err := brokertest.ReadRaw(strings.NewReader(""))
	require.ErrorIs(t, err, io.EOF)
	_, err = brokertest.ReadRaw(strings.NewReader("\x30"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = brokertest.ReadRaw(strings.NewReader("\x30\x05abcd"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = brokertest.ReadRaw(strings.NewReader("\x30\x80\x00"))
	require.ErrorIs(t, err, brokertest.ErrMalformed)
	_, err = brokertest.ReadRaw(strings.NewReader("\x30\x80\x80\x80\x80\x01"))
	require.ErrorIs(t, err, brokertest.ErrMalformed)
	large := brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", Payload: make([]byte, 1<<20)}
	raw, err := brokertest.ReadRaw(bytes.NewReader(large.Encode()))
	require.NoError(t, err)
	require.Equal(t, large.Encode(), raw)
}

// A header that announces 256 MiB costs only what comes after it.
func TestReadRawDoesNotTrustTheHeader(t *testing.T) {
	t.Parallel()
	r := &room{r: strings.NewReader("\x30\xff\xff\xff\x7fabc")}
	_, err := brokertest.ReadRaw(r)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, r.largest, 1<<20)
}

// room notes the largest buffer that it was to fill.
type room struct {
	r       io.Reader
	largest int
}

func (r *room) Read(b []byte) (int, error) {
	r.largest = max(r.largest, len(b))
	return r.r.Read(b)
}

func TestCredentialsAreNotShown(t *testing.T) {
	t.Parallel()
	p := brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{Username: new("ann"), Password: new("canary")}}
	require.NotContains(t, p.String(), "canary")
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"#", "a", true},
		{"#", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "b", false},
		{"+", "a", true},
		{"+", "a/b", false},
		{"+", "/a", false},
		{"+/+", "/a", true},
		{"/+", "/a", true},
		{"+/b", "a/b", true},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a/c", false},
		{"a/+", "a/", true},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
	} {
		require.Equal(t, c.want, brokertest.Matches(c.filter, c.topic), "%q %q", c.filter, c.topic)
	}
}

// FuzzDecode holds the reader to three things: no panic; every error is one
// that it names; and a packet that it takes is written as it was read.
func FuzzDecode(f *testing.F) {
	for _, p := range samples() {
		f.Add(p.Encode())
	}
	f.Add([]byte("\x30\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			raw, err := brokertest.ReadRaw(r)
			if err != nil {
				return
			}
			p, err := brokertest.Decode(raw)
			_ = p.String()
			if err != nil {
				require.ErrorIs(t, err, brokertest.ErrMalformed)
				continue
			}
			require.Equal(t, raw, p.Encode())
		}
	})
}
