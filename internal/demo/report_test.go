package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault/drill"
)

func TestWriteTable(t *testing.T) {
	t.Parallel()
	r := Result{
		Messages: 5000, Seed: 7, BrokerKills: 3, ReplicaKills: 1, Enqueued: 5000, Delivered: 5000,
		Acknowledged: 5000, Redelivered: 96, DuplicatesSuppressed: 96, Effects: 5000, OK: true, Seconds: 6.5,
	}
	var out bytes.Buffer
	require.NoError(t, r.WriteTable(&out, false))
	require.Equal(t, strings.TrimPrefix(`
enqueued                     5,000  stored by the publisher
delivered                    5,000  acknowledged by the broker, at least once: the broker's word
acknowledged                 5,000  answered by a replica's receipt: the consumer's word
redelivered on the wire         96  copies that the broker sent beyond the first of each message
duplicates suppressed           96  copies that a replica recognised and did not process
effects                      5,000  rows that the replicas' handlers wrote
lost                             0  messages that were enqueued and have no effect
doubled                          0  effects beyond the first of a message

Nothing lost, nothing doubled; the broker was killed 3 times, a replica once; 6.5 s, seed 7.
`, "\n"), out.String())

	out.Reset()
	require.NoError(t, r.WriteTable(&out, true))
	require.Contains(t, out.String(), "\x1b[32mNothing lost")

	require.ErrorIs(t, r.WriteTable(brokenWriter{}, false), errBroken)
	require.ErrorIs(t, r.WriteJSON(brokenWriter{}), errBroken)
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestVerdict(t *testing.T) {
	t.Parallel()
	r := Result{Messages: 100, Enqueued: 100, Lost: 1234, Doubled: 2, BrokerKills: 2, Sabotage: drill.Sabotage{Receipts: true, Dedup: true}}
	require.Equal(t, "1,234 lost, 2 doubled; the broker was killed twice, a replica 0 times; 0.0 s, seed 0.\n"+
		"That was without receipts and without dedup.", r.Verdict())
	r = Result{Messages: 100, Enqueued: 90, Lost: 5, Open: 5, Unknown: 1, TimedOut: true}
	require.Contains(t, r.Verdict(), "Stopped before the end: 5 lost, 0 doubled so far")
	var out bytes.Buffer
	require.NoError(t, r.WriteTable(&out, false))
	require.Contains(t, out.String(), "in the outbox ")
	require.Contains(t, out.String(), "unknown ")
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, (&Result{Lost: 3, Sabotage: drill.Sabotage{Dedup: true}}).WriteJSON(&out))
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	var got map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Equal(t, "dedup", got["sabotage"])
	require.EqualValues(t, 3, got["lost"])
	require.Equal(t, false, got["ok"])
	require.NotContains(t, got, "folder")
}

func TestDisplay(t *testing.T) {
	t.Parallel()
	play := func(d *Display) {
		counts := Counts{Enqueued: 1200, Delivered: 1100, Connected: true}
		for _, e := range []Event{
			{Kind: EventProgress, Elapsed: 100 * time.Millisecond, Counts: counts},
			{Kind: EventProgress, Elapsed: 200 * time.Millisecond, Counts: counts},
			{Kind: EventBrokerKilled, Elapsed: 300 * time.Millisecond, Number: 1, Held: 7},
			{Kind: EventProgress, Elapsed: 1100 * time.Millisecond},
		} {
			d.Observe(e)
		}
		d.Done()
	}
	var out bytes.Buffer
	play(&Display{W: &out, Kills: 3})
	require.Equal(t, "  0.1 s  broker up    enqueued 1,200  delivered 1,100  acknowledged 0  duplicates 0  effects 0\n"+
		"  0.3 s  broker killed (1 of 3) with 7 messages that it had acknowledged and sent to nobody\n"+
		"  1.1 s  broker down  enqueued 0  delivered 0  acknowledged 0  duplicates 0  effects 0\n", out.String())

	out.Reset()
	play(&Display{W: &out, Kills: 3, Terminal: true, Width: 30, Colour: true})
	const gone = "\r\x1b[K"
	require.Equal(t, "\x1b[2m  0.1 s  broker up    enqueue\x1b[0m"+
		gone+"\x1b[2m  0.2 s  broker up    enqueue\x1b[0m"+
		gone+"  0.3 s  \x1b[31mbroker killed (1 of 3) with 7 messages that it had acknowledged and sent to nobody\x1b[0m\n"+
		"\x1b[2m  0.3 s  broker down  enqueue\x1b[0m"+
		gone+"\x1b[2m  1.1 s  broker down  enqueue\x1b[0m"+gone, out.String())
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		require.Equal(t, want, thousands(n))
	}
}

// The introduction says what is taken away.
func TestIntro(t *testing.T) {
	t.Parallel()
	require.NotContains(t, Options{}.Intro(), "Sabotage")
	require.Contains(t, Options{}.Intro(), "5,000 messages")
	require.Equal(t, 2, strings.Count(Options{Sabotage: drill.Sabotage{Receipts: true, Dedup: true}}.Intro(), "Sabotage"))
}
