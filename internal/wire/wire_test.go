package wire

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

func full() persist.Message {
	return persist.Message{
		ID:          "0190f3d4-7a10-7000-8000-000000000001",
		Topic:       "plant/1/temperature",
		Payload:     []byte{0x00, 0x01, 0xfe, 0xff},
		QoS:         2,
		Retain:      true,
		OrderingKey: "plant-1",
		Receipt:     true,
		Strict:      true,
		MaxAttempts: 300,
		Delay:       1500 * time.Nanosecond,
		Idempotent:  true,
		Droppable:   true,
		Properties: persist.Properties{
			UTF8:            true,
			ContentType:     "application/json",
			ResponseTopic:   "answers/1",
			CorrelationData: []byte{7, 8},
			User:            []persist.UserProperty{{Name: "a", Value: "1"}, {Name: "a", Value: ""}, {Name: "", Value: "ü"}},
		},
	}
}

// The bytes of version 1 are what files already hold. If this test fails, the
// layout has changed and the version must change with it.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		m    persist.Message
		want string
	}{
		"least": {
			m:    persist.Message{ID: "i", Topic: "t"},
			want: "010000" + "0169" + "0174" + "00" + "160515fe",
		},
		"superseding": {
			m:    persist.Message{ID: "i", Topic: "t", Supersede: true},
			want: "010080" + "0169" + "0174" + "00" + "c0b21de2",
		},
		"full": {
			m: full(),
			want: "01fe7f" +
				"2430313930663364342d376131302d373030302d383030302d303030303030303030303031" +
				"13706c616e742f312f74656d7065726174757265" +
				"07706c616e742d31" +
				"106170706c69636174696f6e2f6a736f6e" +
				"09616e73776572732f31" +
				"020708" +
				"ac02" +
				"dc0b" +
				"0301610131" + "016100" + "0002c3bc" +
				"040001feff" +
				"345418ee",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := AppendMessage(nil, &c.m)
			require.Equal(t, c.want, hex.EncodeToString(got))
			back, err := DecodeMessage(got)
			require.NoError(t, err)
			require.Equal(t, c.m, back)
		})
	}
}

func TestAppendKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	m := full()
	got := AppendMessage([]byte("before"), &m)
	require.Equal(t, "before", string(got[:6]))
	back, err := DecodeMessage(got[6:])
	require.NoError(t, err)
	require.Equal(t, m, back)
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	m := full()
	whole := AppendMessage(nil, &m)
	for cut := range whole {
		_, err := DecodeMessage(whole[:cut])
		require.ErrorIs(t, err, persist.ErrCorrupt, "cut at %d", cut)
	}
	for i := range whole {
		flipped := append([]byte(nil), whole...)
		flipped[i] ^= 0x10
		_, err := DecodeMessage(flipped)
		require.ErrorIs(t, err, persist.ErrCorrupt, "flipped at %d", i)
	}
	for name, b := range map[string][]byte{
		"nothing":             {},
		"newer version":       seal(2, 0, 0, 1, 'i', 1, 't', 0),
		"QoS 3":               seal(1, 3, 0, 1, 'i', 1, 't', 0),
		"bytes after the end": seal(1, 0, 0, 1, 'i', 1, 't', 0, 0),
		"length past the end": seal(1, 0, 0, 1, 'i', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"varint without end":  seal(1, 0, 0, 0x80, 0x80),
		"too many properties": seal(1, 0, hasUser, 1, 'i', 1, 't', 0xff, 0xff, 0xff, 0xff, 0x0f, 0),
		"too long a delay":    seal(1, 0, hasDelay, 1, 'i', 1, 't', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0),
		"too many attempts":   seal(1, 0, hasMaxAttempts, 1, 'i', 1, 't', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0),
	} {
		m, err := DecodeMessage(b)
		require.ErrorIs(t, err, persist.ErrCorrupt, name)
		require.Zero(t, m, name)
	}
}

// seal gives bytes the checksum that makes a reader look at them.
func seal(b ...byte) []byte {
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// A message read from a store lives on in a relay: changing one of its byte
// slices by append must not reach into the next field.
func TestDecodedSlicesHaveNoRoom(t *testing.T) {
	t.Parallel()
	m := full()
	back, err := DecodeMessage(AppendMessage(nil, &m))
	require.NoError(t, err)
	require.Equal(t, len(back.Payload), cap(back.Payload))
	require.Equal(t, len(back.Properties.CorrelationData), cap(back.Properties.CorrelationData))
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := persist.Message{
			ID:          rapid.String().Draw(t, "id"),
			Topic:       rapid.String().Draw(t, "topic"),
			QoS:         byte(rapid.IntRange(0, 2).Draw(t, "qos")),
			Retain:      rapid.Bool().Draw(t, "retain"),
			OrderingKey: rapid.String().Draw(t, "key"),
			Receipt:     rapid.Bool().Draw(t, "receipt"),
			Strict:      rapid.Bool().Draw(t, "strict"),
			MaxAttempts: rapid.IntRange(0, math.MaxInt).Draw(t, "attempts"),
			Delay:       time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "delay")),
			Idempotent:  rapid.Bool().Draw(t, "idempotent"),
			Droppable:   rapid.Bool().Draw(t, "droppable"),
			Supersede:   rapid.Bool().Draw(t, "supersede"),
			Properties: persist.Properties{
				UTF8:          rapid.Bool().Draw(t, "utf8"),
				ContentType:   rapid.String().Draw(t, "content type"),
				ResponseTopic: rapid.String().Draw(t, "response topic"),
			},
		}
		if b := rapid.SliceOf(rapid.Byte()).Draw(t, "payload"); len(b) > 0 {
			m.Payload = b
		}
		if rapid.Bool().Draw(t, "correlated") {
			m.Properties.CorrelationData = rapid.SliceOf(rapid.Byte()).Draw(t, "correlation")
		}
		for range rapid.IntRange(0, 4).Draw(t, "pairs") {
			m.Properties.User = append(m.Properties.User, persist.UserProperty{
				Name: rapid.String().Draw(t, "name"), Value: rapid.String().Draw(t, "value"),
			})
		}
		b := AppendMessage(nil, &m)
		require.Equal(t, len(b), Size(&m))
		back, err := DecodeMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		require.Equal(t, m, back)
	})
}

// FuzzDecodeMessage gives any bytes a right checksum, so that the fields are
// read. What can be read must come out of a second round unchanged.
func FuzzDecodeMessage(f *testing.F) {
	for _, m := range []persist.Message{{ID: "i", Topic: "t"}, full()} {
		b := AppendMessage(nil, &m)
		f.Add(b[:len(b)-checksumSize])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := DecodeMessage(b); err != nil {
			require.ErrorIs(t, err, persist.ErrCorrupt)
		}
		m, err := DecodeMessage(seal(append([]byte(nil), b...)...))
		if err != nil {
			require.ErrorIs(t, err, persist.ErrCorrupt)
			return
		}
		again, err := DecodeMessage(AppendMessage(nil, &m))
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}

func BenchmarkAppendMessage(b *testing.B) {
	m := persist.Message{ID: full().ID, Topic: "bench/topic", Payload: []byte(strings.Repeat("x", 256)), QoS: 1}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendMessage(dst[:0], &m)
	}
}

func BenchmarkDecodeMessage(b *testing.B) {
	m := persist.Message{ID: full().ID, Topic: "bench/topic", Payload: []byte(strings.Repeat("x", 256)), QoS: 1}
	enc := AppendMessage(nil, &m)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeMessage(enc); err != nil {
			b.Fatal(err)
		}
	}
}
