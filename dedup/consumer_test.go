package dedup

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func TestFirstIsProcessedAndSecondIsDuplicate(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	c := start(t, testConfig(store))

	first := submit(t, c, "a")
	grant := first.grant(t)
	require.Equal(t, 1, grant.Attempts)
	require.Positive(t, grant.Epoch)
	require.Empty(t, first.settled, "settled before completion")
	c.Complete(first, nil)
	require.Equal(t, OutcomeProcessed, first.outcome(t))

	require.Equal(t, OutcomeDuplicate, submit(t, c, "a").outcome(t))

	other := start(t, testConfig(store))
	require.Equal(t, OutcomeDuplicate, submit(t, other, "a").outcome(t))

	s := c.Stats()
	require.Equal(t, Stats{Received: 2, Processed: 1, Duplicates: 1}, s)
}

func TestSecondInProcessFollowsFirst(t *testing.T) {
	t.Parallel()
	c := start(t, testConfig(newStore(t)))

	first := submit(t, c, "a")
	first.grant(t)
	second, third := submit(t, c, "a"), submit(t, c, "a")
	second.undecided(t)

	c.Release(first)
	require.Equal(t, OutcomeReleased, first.outcome(t))
	require.Equal(t, 2, second.grant(t).Attempts, "a released claim counts")
	third.undecided(t)

	c.Complete(second, nil)
	require.Equal(t, OutcomeProcessed, second.outcome(t))
	require.Equal(t, OutcomeDuplicate, third.outcome(t))
}

func TestDeadLetterIsStoredWithTheMark(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	c := start(t, testConfig(store))
	d := submit(t, c, "a")
	d.grant(t)
	follower := submit(t, c, "a")
	c.Complete(d, letterFor("no good"))
	require.Equal(t, OutcomeDead, d.outcome(t))
	require.Equal(t, OutcomeDuplicateDead, follower.outcome(t))

	letters, err := store.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, persist.SideConsumer, letters[0].Side)
	require.Equal(t, persist.StateFailed, letters[0].State)
	require.Equal(t, "workers", letters[0].Group)
	require.Equal(t, "a", letters[0].Key)
	require.Equal(t, 1, letters[0].Attempts)
	require.Equal(t, OutcomeDuplicateDead, submit(t, c, "a").outcome(t))
}

// lateAnswer is a store whose completions are durable before they are answered.
type lateAnswer struct {
	persist.Store
	durable, answer chan struct{}
}

func (l *lateAnswer) Complete(ctx context.Context, group string, done []persist.Completion, keep time.Duration) ([]bool, error) {
	ok, err := l.Store.Complete(ctx, group, done, keep)
	close(l.durable)
	<-l.answer
	return ok, err
}

// A dead letter can be tried again before its consumer knows that it is one. What
// comes of that is no duplicate.
func TestDeadLetterIsTriedAgainAtOnce(t *testing.T) {
	t.Parallel()
	store := &lateAnswer{newStore(t), make(chan struct{}), make(chan struct{})}
	c := start(t, testConfig(store))
	d := submit(t, c, "a")
	d.grant(t)
	dead := letterFor("no good")
	dead.Message = persist.Message{Topic: "a", QoS: 1}
	c.Complete(d, dead)
	<-store.durable
	letters, err := store.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	_, err = store.RetryDeadLetters(t.Context(), []persist.Retry{letters[0].Retry()})
	require.NoError(t, err)
	again := submit(t, c, "a")
	close(store.answer)
	require.Equal(t, OutcomeDead, d.outcome(t))
	require.Equal(t, 1, again.grant(t).Attempts)
	c.Release(again)
}

func TestWithoutKeyEverythingIsProcessed(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	c := start(t, testConfig(store))
	for range 3 {
		d := submit(t, c, "")
		require.Equal(t, Grant{Attempts: 1, turn: 1}, d.grant(t))
		c.Complete(d, nil)
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	d := submit(t, c, "")
	d.grant(t)
	c.Complete(d, letterFor("no good"))
	require.Equal(t, OutcomeDead, d.outcome(t))
	letters, err := store.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)

	d = submit(t, c, "")
	d.grant(t)
	c.Release(d)
	require.Equal(t, OutcomeReleased, d.outcome(t))
	require.Equal(t, Stats{Received: 5, Unkeyed: 5, Processed: 3, Dead: 1, Released: 1}, c.Stats())
}

// What is in work elsewhere is neither granted nor acknowledged, until the other
// one completes, releases, or dies.
func TestBusyElsewhereIsHeld(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	one, two := start(t, testConfig(store)), start(t, testConfig(store))

	a1, b1 := submit(t, one, "a"), submit(t, one, "b")
	a1.grant(t)
	b1.grant(t)
	a2, b2 := submit(t, two, "a"), submit(t, two, "b")
	require.Eventually(t, func() bool { return two.Stats().Held == 2 }, patience, time.Millisecond)
	a2.undecided(t)
	b2.undecided(t)

	one.Complete(a1, nil)
	require.Equal(t, OutcomeProcessed, a1.outcome(t))
	require.Equal(t, OutcomeDuplicate, a2.outcome(t))

	one.Release(b1)
	require.Equal(t, OutcomeReleased, b1.outcome(t))
	require.Equal(t, 2, b2.grant(t).Attempts)
	two.Complete(b2, nil)
	require.Equal(t, OutcomeProcessed, b2.outcome(t))
	require.Zero(t, two.Stats().Held)
}

// A delivery whose connection is gone is taken back, in whatever phase it is.
func TestReleaseBeforeGrant(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	one, two := start(t, testConfig(store)), start(t, testConfig(store))
	a := submit(t, one, "a")
	a.grant(t)

	leader := submit(t, two, "a")
	follower, last := submit(t, two, "a"), submit(t, two, "a")
	require.Eventually(t, func() bool { return two.Stats().Held == 1 }, patience, time.Millisecond)
	two.Release(last)
	require.Equal(t, OutcomeReleased, last.outcome(t))
	two.Release(leader)
	require.Equal(t, OutcomeReleased, leader.outcome(t))
	two.Release(leader) // nothing more
	follower.undecided(t)

	one.Complete(a, nil)
	require.Equal(t, OutcomeDuplicate, follower.outcome(t))
	require.Empty(t, leader.settled)
}

// Granted and Release may cross: Settled comes last all the same.
func TestReleaseWithinGranted(t *testing.T) {
	t.Parallel()
	c := start(t, testConfig(newStore(t)))
	d := newInbound()
	d.onGranted = func(d *inbound, _ Grant) {
		c.Release(d)
		require.Empty(t, d.settled)
	}
	require.NoError(t, c.Submit(d, "a", time.Time{}))
	require.Equal(t, OutcomeReleased, d.outcome(t))
	again := submit(t, c, "a")
	require.Equal(t, 2, again.grant(t).Attempts)
	c.Complete(again, nil)
	require.Equal(t, OutcomeProcessed, again.outcome(t))
}

func TestCompleteWithinGrantedAndReuse(t *testing.T) {
	t.Parallel()
	c := start(t, testConfig(newStore(t)))
	d := newInbound()
	d.onGranted = func(d *inbound, _ Grant) { c.Complete(d, nil) }
	for i := range 100 {
		require.NoError(t, c.Submit(d, key(i), time.Time{}))
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	require.Equal(t, int64(100), c.Stats().Processed)
}

func TestSubmitTwice(t *testing.T) {
	t.Parallel()
	c := start(t, testConfig(newStore(t)))
	d := submit(t, c, "a")
	require.ErrorIs(t, c.Submit(d, "b", time.Time{}), ErrSubmitted)
	d.grant(t)
	c.Complete(d, nil)
	c.Complete(d, nil) // ignored
	require.Equal(t, OutcomeProcessed, d.outcome(t))
}

func TestCloseReleasesWhatIsNotGranted(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	one := start(t, testConfig(store))
	two, err := New(testConfig(store))
	require.NoError(t, err)
	a := submit(t, one, "a")
	a.grant(t)
	waiting := submit(t, two, "a")
	attached := submit(t, two, "a")
	inWork := submit(t, two, "b")
	inWork.grant(t)
	follows := submit(t, two, "b")

	closed := make(chan error, 1)
	go func() { closed <- two.Close(context.Background()) }()
	require.Equal(t, OutcomeReleased, waiting.outcome(t))
	require.Equal(t, OutcomeReleased, attached.outcome(t))
	require.ErrorIs(t, two.Submit(newInbound(), "c", time.Time{}), ErrClosed)
	require.Empty(t, closed, "closed with a delivery in work")

	two.Complete(inWork, nil)
	require.NoError(t, <-closed)
	require.Equal(t, OutcomeProcessed, <-inWork.settled)
	require.Equal(t, OutcomeDuplicate, <-follows.settled)
	require.NoError(t, two.Close(context.Background()))

	one.Complete(a, nil)
	require.Equal(t, OutcomeProcessed, a.outcome(t))
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	c, err := New(testConfig(newStore(t)))
	require.NoError(t, err)
	d := submit(t, c, "a")
	d.grant(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, c.Close(ctx), context.Canceled)
	c.Complete(d, nil)
	c.Release(d)
	d.undecided(t)
	require.Equal(t, int64(1), c.Stats().Open)
}

func TestConfigTellsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Lease: time.Millisecond, Window: -1, ClockSkew: -1, MaxBatch: -1, PollInterval: -1, SweepInterval: -1, StoreTimeout: -1})
	require.ErrorIs(t, err, persist.ErrInvalid)
	for _, field := range []string{"Store", "Group", "Lease", "Window", "ClockSkew", "MaxBatch", "PollInterval", "SweepInterval", "StoreTimeout"} {
		require.ErrorContains(t, err, field)
	}
}

// Grants come in the order of the submissions, also after calls that failed.
func TestGrantsKeepOrder(t *testing.T) {
	t.Parallel()
	store := newFaulty(newStore(t))
	calls := 0 // of one goroutine
	store.setDecide(func(op string, _ []string) fault {
		if op == "claim" {
			calls++
			if calls%2 == 1 && calls < 8 {
				return faultFail
			}
		}
		return faultNone
	})
	cfg := testConfig(store)
	cfg.MaxBatch = 7
	c := start(t, cfg)
	order := make(chan int, 100)
	var all []*inbound
	for i := range 100 {
		d := newInbound()
		d.onGranted = func(d *inbound, _ Grant) {
			order <- i
			c.Complete(d, nil)
		}
		require.NoError(t, c.Submit(d, key(i), time.Time{}))
		all = append(all, d)
	}
	for _, d := range all {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	for i := range 100 {
		require.Equal(t, i, <-order)
	}
}

// A claim whose answer comes after its delivery was taken back is given back, or
// goes to the next delivery of the key.
func TestReleaseWhileClaiming(t *testing.T) {
	t.Parallel()
	store := newFaulty(newStore(t))
	running, goOn := make(chan struct{}), make(chan struct{})
	store.setAfter(func(op string) { // granted, and not answered yet
		if op == "claim" {
			running <- struct{}{}
			<-goOn
		}
	})
	cfg := testConfig(store)
	cfg.Lease = time.Hour // nothing is waited out
	one, two := start(t, cfg), start(t, testConfig(store.Store))

	gone := submit(t, one, "a")
	<-running
	one.Release(gone)
	require.Equal(t, OutcomeReleased, gone.outcome(t))
	goOn <- struct{}{}
	other := submit(t, two, "a")
	other.grant(t)
	two.Release(other)
	require.Equal(t, OutcomeReleased, other.outcome(t))

	gone = submit(t, one, "a")
	<-running
	one.Release(gone)
	require.Equal(t, OutcomeReleased, gone.outcome(t))
	next := submit(t, one, "a") // queued while the claim for gone is under way
	goOn <- struct{}{}
	next.grant(t)
	one.Complete(next, nil)
	require.Equal(t, OutcomeProcessed, next.outcome(t))
	require.Empty(t, gone.granted)
}
