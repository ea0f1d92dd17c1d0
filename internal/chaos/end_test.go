package chaos

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/history"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// drain waits until everything that was accepted has come to its end.
func (r *run) drain() {
	r.t.Helper()
	limit := time.Minute
	if r.opts.limit != 0 {
		limit = r.opts.limit
	}
	began := time.Now()
	what := ""
	for {
		if what = r.open(); what == "" || time.Since(began) > limit {
			break
		}
		r.pause(200 * time.Millisecond)
	}
	op := history.Op{Type: history.OK, Kind: history.Drain, Amount: time.Since(began).Milliseconds(), Text: what}
	if what != "" {
		op.Type = history.Fail
	}
	r.record(op)
}

// open tells what is not at its end; empty if everything is.
func (r *run) open() string {
	store, err := persist.Open(r.ctx, r.b.url, sqlite.Driver{}, postgres.Driver{}, redis.Driver{})
	if err != nil {
		return err.Error()
	}
	defer func() { _ = store.Close(context.Background()) }() // it was only read
	stats, err := store.Stats(r.ctx)
	if err != nil {
		return err.Error()
	}
	if n := stats.Pending + stats.Delivered; n > 0 {
		return fmt.Sprintf("%d messages in the outbox", n)
	}
	var seen history.Set
	if r.b.effects != nil {
		ops, err := r.b.effects()
		if err != nil {
			return err.Error()
		}
		for _, op := range ops {
			seen.Add(op.Values[0])
		}
	}
	dead := stats.Failed + stats.Expired + stats.ConsumerDead
	r.mu.Lock()
	defer r.mu.Unlock()
	missing, example := r.checker.Missing(seen.Has)
	if missing > int(dead) {
		return fmt.Sprintf("%d messages have no effect, %s for one", missing, example)
	}
	return ""
}

// report adds what is in the store to the record, and judges it.
func (r *run) report() *history.Report {
	r.t.Helper()
	for _, m := range r.members {
		m.now().process.Kill() // what they would still say does not count
		<-m.now().gone
	}
	store, err := persist.Open(r.ctx, r.b.url, sqlite.Driver{}, postgres.Driver{}, redis.Driver{})
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, store.Close(context.Background())) }()
	stats, err := store.Stats(r.ctx)
	require.NoError(r.t, err)
	r.record(history.Op{Type: history.OK, Kind: history.Outbox, Amount: stats.Pending + stats.Delivered})
	after := int64(0)
	for {
		letters, err := store.ListDeadLetters(r.ctx, persist.DeadLetterFilter{After: after}, 1000)
		require.NoError(r.t, err)
		if len(letters) == 0 {
			break
		}
		for _, l := range letters {
			after = l.Number
			v, err := history.ParseID(l.Message.ID)
			require.NoError(r.t, err)
			r.record(history.Op{
				Type: history.OK, Kind: history.Dead, Values: []history.Value{v}, Text: l.Side.String() + ": " + l.Reason,
			})
		}
	}
	for _, read := range []func() ([]history.Op, error){r.b.effects, r.b.balances} {
		if read == nil {
			continue
		}
		ops, err := read()
		require.NoError(r.t, err)
		for _, op := range ops {
			r.record(op)
		}
	}
	for i, tp := range r.taps {
		sent, repeated := tp.wire.Counts()
		r.t.Logf("proxy %d: %d PUBLISH with a message ID, %d of them again", i, sent, repeated)
	}
	require.NoError(r.t, r.watcher.broken(), "the watcher lost its connection: it proves nothing")
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checker.Report()
}

// slowRecovery is from when on a recovery is worth a line of its own.
const slowRecovery = 5 * time.Second

// conclude prints the line of the run, and fails the test if something is wrong.
func (r *run) conclude(report *history.Report) {
	r.t.Helper()
	var median, slowest time.Duration
	r.watcher.mu.Lock()
	over := slices.SortedFunc(slices.Values(r.watcher.over), func(a, b recovery) int { return cmp.Compare(a.took, b.took) })
	r.watcher.mu.Unlock()
	if len(over) > 0 {
		slowest, median = over[len(over)-1].took, over[len(over)/2].took
	}
	for _, o := range over {
		if o.took > slowRecovery {
			r.t.Logf("%s after %s, which ended at %s", o.took.Round(time.Millisecond), o.after, o.since.Format(time.TimeOnly))
		}
	}
	r.t.Logf("RESULT %s seed %d, %s: %s; recovery median %s, slowest %s", r.b.name, r.opts.seed,
		time.Since(r.began).Round(time.Second), report, median.Round(time.Millisecond), slowest.Round(time.Millisecond))
	require.NoError(r.t, report.Err(), "seed %d", r.opts.seed)
}
