package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/history"
)

// What a process may take to end in good order; a busy machine adds to it.
const (
	endLimit      = 5 * time.Second
	loadAllowance = 5 * time.Second
)

// Processes are told to end under load, one after another: ONCEMQ_SIGTERM_ROUNDS of
// them. They end with status 0 and in time, no relay's message is sent twice, and no
// subscriber is sent again what it has processed.
func TestSigterm(t *testing.T) {
	t.Parallel()
	rounds := setting(t, "ONCEMQ_SIGTERM_ROUNDS", 8)
	b := onSQLite(t, true)
	b.unshared, b.orders = false, []string{"plain"}
	s := seed(t)
	r := begin(t, b, options{seed: s, pace: 2 * batchEach * time.Second / 600, handler: 3})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var accepted atomic.Int64
	var feeders sync.WaitGroup
	for i, m := range r.of("producer") {
		f := &feeder{
			t: t, member: m, record: r.record, random: rand.New(rand.NewPCG(s, uint64(i))), settled: r.settled,
			pace: r.opts.pace, modes: b.orders, accepted: &accepted,
		}
		feeders.Go(func() { f.run(ctx) })
	}
	random := rand.New(rand.NewPCG(s, 1))
	var took []time.Duration
	for round := range rounds {
		r.pause(between(random, 300*time.Millisecond, 700*time.Millisecond))
		m := pick(random, r.of([]string{"relay", "subscriber"}[round%2]))
		i := m.now()
		r.record(history.Op{Type: history.Info, Kind: history.Fault, Text: "SIGTERM"})
		began := time.Now()
		i.process.Terminate()
		require.Zero(t, i.process.Wait(2*(endLimit+loadAllowance)), "%s\n%s", m.set.ID, i.process.Stderr)
		took = append(took, time.Since(began))
		<-i.gone
		m.start()
		m.await(20 * time.Second)
	}
	stop()
	feeders.Wait()
	r.drain()
	report := r.report()
	r.conclude(report)
	slices.Sort(took)
	_, repeated := r.taps[0].wire.Counts()
	t.Logf("RESULT %d ends by SIGTERM under load, %d messages: median %s, slowest %s; %d PUBLISH again, %d processed messages delivered again",
		rounds, report.Messages, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond),
		repeated, r.taps[1].again.Load())
	require.Less(t, took[len(took)-1], endLimit+loadAllowance)
	require.Zero(t, repeated, "PUBLISH of a message that was sent before")
	require.Zero(t, r.taps[1].again.Load(), "messages delivered again to a subscriber that had processed them")
	require.Zero(t, report.Extra)
}
