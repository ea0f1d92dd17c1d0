package comparison

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/qos"
)

func options(messages int) Options {
	return Options{
		NewStore: func() persist.Store { return memory.New(memory.Options{}) },
		Messages: messages, Rate: 2000, Quiet: 300 * time.Millisecond,
	}
}

func compare(t *testing.T, o Options) map[string][]*Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	results := make(map[string][]*Result)
	require.NoError(t, Run(ctx, o, func(r *Result) error {
		results[r.Link] = append(results[r.Link], r)
		t.Logf("%s, QoS %s: %+v", r.Link, r.Level, *r)
		return nil
	}))
	return results
}

// requireSound demands that the numbers of a result add up.
func requireSound(t *testing.T, r *Result, messages int) {
	t.Helper()
	require.Equal(t, messages, r.Sent)
	require.Equal(t, r.Sent, r.Confirmed+r.Pending+r.Lost)
	var sum Counts
	for _, c := range r.Kinds {
		require.Equal(t, c.Sent, c.Confirmed+c.Pending+c.Lost)
		sum.add(&c)
	}
	require.Equal(t, r.Counts, sum)
	require.Equal(t, r.Handshake, r.Packets.Handshake())
	if r.Level > 0 {
		require.GreaterOrEqual(t, r.Packets.Publish, messages-r.Pending)
	}
	if r.Confirmed > 0 {
		require.LessOrEqual(t, r.Latency.P50, r.Latency.P99)
		require.LessOrEqual(t, r.Latency.P99, r.Latency.Max)
	}
}

// What each level promises, over a plain link and over one that is cut: QoS 0 loses
// what was on its way, QoS 1 loses nothing and doubles some, QoS 2 does neither.
func TestRun(t *testing.T) {
	t.Parallel()
	const messages = 100
	o := options(messages)
	o.CutEvery, o.Rate = 45, 500
	results := compare(t, o)
	for _, link := range o.withDefaults().Links {
		require.Len(t, results[link], 3)
		for level, r := range results[link] {
			require.Equal(t, qos.Level(level), r.Level)
			requireSound(t, r, messages)
			require.True(t, r.Kept(), "%+v", r)
		}
	}
	for level, r := range results[Plain] {
		require.Equal(t, Counts{Sent: messages, Confirmed: messages}, r.Counts)
		require.Equal(t, messages, r.Packets.Publish)
		require.Equal(t, [3]int{0, messages, 3 * messages}[level], r.Handshake)
		require.Zero(t, r.Retransmissions)
		require.Equal(t, 1, r.Connections)
		require.Equal(t, level == 0, r.Answer == nil)
	}
	faulty := results[Faulty]
	require.GreaterOrEqual(t, faulty[0].Lost, faulty[0].Cuts, "each cut loses the packet at least")
	require.Zero(t, faulty[0].Handshake)
	require.Zero(t, faulty[0].Retransmissions)
	require.Zero(t, faulty[0].Duplicates)
	require.Positive(t, faulty[1].Retransmissions)
	require.Positive(t, faulty[1].Duplicates, "a PUBACK was lost, so the message came twice")
	require.Positive(t, faulty[2].Retransmissions)
	for _, r := range faulty {
		require.Positive(t, r.Cuts)
		require.Contains(t, []int{0, 1}, r.Cuts-(r.Connections-1), "the last cut may have cut nothing off")
	}
}

// A session that is kept loses nothing of QoS 1 and 2; without one what was sent
// meanwhile is gone.
func TestSessions(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var results []*SessionResult
	require.NoError(t, Sessions(ctx, options(10), func(r *SessionResult) error {
		results = append(results, r)
		return nil
	}))
	require.Len(t, results, 6)
	all, none := Got{10, 10}, Got{10, 0}
	for i, r := range results {
		require.Equal(t, qos.Level(i%3), r.Level)
		require.Equal(t, all, r.Connected)
		require.Equal(t, all, r.Returned)
		if r.Session == Persistent {
			require.True(t, r.Present)
			if r.Level > 0 {
				require.Equal(t, all, r.Away)
				require.Zero(t, r.Lost)
			}
			continue
		}
		require.Equal(t, NoSession, r.Session)
		require.False(t, r.Present)
		require.Equal(t, none, r.Away)
		require.Equal(t, 10, r.Lost)
	}
}

// A run that ends while the subscribers are away leaves no session at the broker either.
func TestSessionsInterrupted(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := options(1000) // of which the phase away does not see the end
	o.Client.Servers = []string{b.URL()}
	ended := make(chan error, 1)
	go func() { ended <- Sessions(ctx, o, nil) }()
	here := func() bool {
		return slices.ContainsFunc(b.Connected(), func(id string) bool { return strings.HasSuffix(id, Persistent) })
	}
	require.Eventually(t, here, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return !here() }, 20*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Empty(t, b.Connected())
	require.Zero(t, b.Sessions())
}

// A broker that is not there is an error that names what was tried; an end is one
// at once.
func TestRunWithoutBroker(t *testing.T) {
	t.Parallel()
	o := options(1)
	o.Client.Servers = []string{"mqtt://127.0.0.1:1"}
	o.Timeout = 200 * time.Millisecond
	err := Run(t.Context(), o, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "refused")
	require.Error(t, Sessions(t.Context(), o, nil))

	ctx, cancel := context.WithCancel(t.Context())
	o = options(MaxMessages)
	o.Rate = 1
	o.Observe = func(p Progress) {
		if p.Seen > 0 {
			cancel()
		}
	}
	require.ErrorIs(t, Run(ctx, o, nil), context.Canceled)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"store: is missing":               {},
		"messages: -1 is out of range":    {Messages: -1},
		"rate: -1 is out of range":        {Rate: -1},
		"cut-every: 9 is out of range":    {CutEvery: 9},
		"delay: 1m0s is too long":         {Delay: time.Minute},
		"quiet: 1ms is too short":         {Quiet: time.Millisecond},
		"timeout: 1ms is too short":       {Timeout: time.Millisecond},
		`topic: "a/#" has the wildcard`:   {Topic: "a/#"},
		`link: "slow" is not a choice`:    {Links: []string{"slow"}},
		"broker: there are several":       {Client: autopaho.Config{Servers: []string{"mqtt://a", "mqtt://b"}}},
		`broker: broker scheme "http" is`: {Client: autopaho.Config{Servers: []string{"http://a"}}},
	} {
		err := o.Validate()
		require.ErrorIs(t, err, ErrOptions)
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, options(1).Validate())
}

// The tables fit a narrow terminal, and their colours do not move columns.
func TestTables(t *testing.T) {
	t.Parallel()
	results := []*Result{{Link: Faulty, Level: 0}, {Link: Faulty, Level: 1}, {Link: Faulty, Level: 2}}
	for _, r := range results {
		r.Counts = Counts{MaxMessages, MaxMessages, 0, 7, 0}
		r.Packets = Packets{Publish: MaxMessages}
		r.Kinds = map[string]Counts{"alert": {Sent: 20, Confirmed: 20}}
		r.Latency = &Latency{P50: 0.123, P95: 12.34, P99: 12345.6}
	}
	var plain, coloured bytes.Buffer
	require.NoError(t, WriteTable(&plain, results, false))
	require.NoError(t, WriteTable(&coloured, results, true))
	for line := range strings.Lines(plain.String()) {
		require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 40, line)
	}
	require.Contains(t, plain.String(), "lost                   7       7       7\n")
	require.Contains(t, plain.String(), "  p95               12.3    12.3    12.3\n")
	require.Contains(t, coloured.String(), "\x1b[31m       7\x1b[0m")
	stripped := strings.NewReplacer("\x1b[31m", "", "\x1b[1m", "", "\x1b[0m", "").Replace(coloured.String())
	require.Equal(t, plain.String(), stripped)
}
