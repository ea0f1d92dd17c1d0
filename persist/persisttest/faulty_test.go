package persisttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// newEnv is a case's world on a store of a test.
func newEnv(t *testing.T, store persist.Store) *env {
	t.Helper()
	return &env{T: t, h: Harness{FrozenClock: true}, ctx: t.Context(), store: store}
}

// changes are the operations that the snapshot shows, or what else tells that
// they have happened.
func changes(e *env, op Op, before map[string]any, lane persist.Lane, claim persist.Claim) bool {
	switch op {
	case OpLaneNext:
		return len(e.next(lane)) == 0
	case OpLaneRelease:
		_, err := e.store.AcquireLane(e.ctx, 0, "next", lease)
		return err == nil
	case OpRelease:
		return e.claim(claim.Key).State == persist.ClaimGranted
	case OpRenewClaims:
		return e.claim(claim.Key).Remaining > lease
	case OpLoadSession:
		return errors.Is(e.store.SaveSession(e.ctx, persist.Session{ClientID: "client", Epoch: 1}), persist.ErrLeaseLost)
	case OpSaveSession:
		return len(e.load("client", 2)) == 0
	case OpAnnounceRelay:
		return len(e.announce(e.store, "nobody", 0)) > 0
	default:
		return !reflect.DeepEqual(before, snapshot(e))
	}
}

// reads are the operations that change nothing in any mode; there is nothing to
// expire.
func reads() []Op {
	return []Op{OpLookup, OpLanes, OpListDeadLetters, OpStats, OpListOutbox, OpGetOutbox, OpExpireProcessed, OpTime}
}

func TestFaultOfEachOperation(t *testing.T) {
	t.Parallel()
	for name := range operations(memory.New(memory.Options{}), nil, persist.Claim{}) {
		for _, mode := range []Mode{Failed, Applied, Lost} {
			t.Run(fmt.Sprint(name, " ", mode), func(t *testing.T) {
				t.Parallel()
				op, inner := Op(name), memory.New(memory.Options{Lanes: 2})
				store, faults := NewFaulty(inner)
				e := newEnv(t, inner)
				e.store = store // so that the lane is under faults
				lane, claim := furnish(e)
				e.store = inner
				before := snapshot(e)
				calls := faults.Calls(op)

				faults.Add(Fault{Op: op, Mode: mode})
				err := operations(store, lane, claim)[name](t.Context())
				require.ErrorIs(t, err, ErrInjected)
				require.Equal(t, mode == Failed, errors.Is(err, persist.ErrUnavailable))
				require.Equal(t, mode != Failed, errors.Is(err, persist.ErrUnknownOutcome))
				require.ErrorContains(t, err, name)
				require.Equal(t, 1, faults.Failed())
				require.Equal(t, calls+1, faults.Calls(op))

				want := mode == Applied && !slices.Contains(reads(), op)
				require.Equal(t, want, changes(e, op, before, lane, claim), "whether it has happened")
			})
		}
	}
}

func TestFaultCountsCalls(t *testing.T) {
	t.Parallel()
	own := errors.New("own error")
	store, faults := NewFaulty(memory.New(memory.Options{}),
		Fault{Op: OpEnqueue, N: 2, Times: 2},
		Fault{N: 6, Err: own},
		Fault{Op: OpStats, Times: -1, Err: persist.ErrReadOnly},
	)
	enqueue := func() error {
		_, err := store.Enqueue(t.Context(), []persist.Message{message("m")})
		return err
	}
	stats := func() error {
		_, err := store.Stats(t.Context())
		return err
	}
	require.NoError(t, enqueue())
	require.ErrorIs(t, enqueue(), persist.ErrUnavailable)
	require.ErrorIs(t, enqueue(), persist.ErrUnavailable)
	require.NoError(t, enqueue())
	require.ErrorIs(t, stats(), persist.ErrReadOnly)
	require.ErrorIs(t, enqueue(), own, "the sixth call of all")
	require.NoError(t, enqueue())
	require.ErrorIs(t, stats(), persist.ErrReadOnly)
	require.Equal(t, 5, faults.Failed())
	require.Equal(t, 6, faults.Calls(OpEnqueue))
	require.Equal(t, 8, faults.Calls(""))
	faults.Heal()
	require.NoError(t, stats())
	faults.Add(Fault{Op: OpEnqueue, N: 2})
	require.NoError(t, enqueue())
	require.Error(t, enqueue())
}

// An applied fault needs something that was applied.
func TestFaultOfACallThatFailsAnyway(t *testing.T) {
	t.Parallel()
	store, _ := NewFaulty(memory.New(memory.Options{}), Fault{Mode: Applied})
	_, err := store.GetOutbox(t.Context(), "none")
	require.ErrorIs(t, err, persist.ErrNotFound)
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
}

// How the users of a store are meant to go through all its calls.
func TestLoopOverAllCalls(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Failed, Applied, Lost} {
		n := 1
		for ; ; n++ {
			inner := memory.New(memory.Options{})
			store, faults := NewFaulty(inner, Fault{N: n, Mode: mode})
			for { // a sender that is right: it tries again under the same ID
				if _, err := store.Enqueue(t.Context(), []persist.Message{idempotent("a", "")}); err == nil {
					break
				}
			}
			for {
				if _, err := store.Stats(t.Context()); err == nil {
					break
				}
			}
			stats, err := inner.Stats(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 1, stats.Pending, "call %d %s", n, mode)
			if faults.Failed() == 0 {
				break
			}
		}
		require.Equal(t, 3, n, "two calls can fail")
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	store, faults := NewFaulty(memory.New(memory.Options{}))
	hold := faults.Hold(OpEnqueue, 2)
	done := make(chan error)
	go func() {
		for range 3 {
			_, err := store.Enqueue(t.Context(), []persist.Message{message("m")})
			done <- err
		}
	}()
	require.NoError(t, <-done)
	<-hold.Reached()
	stats, err := store.Stats(t.Context()) // others are not held
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Pending, "the call has not happened yet")
	hold.Release()
	hold.Release()
	require.NoError(t, <-done)
	require.NoError(t, <-done)
}

func TestHoldEndsWithTheContext(t *testing.T) {
	t.Parallel()
	inner := memory.New(memory.Options{})
	store, faults := NewFaulty(inner)
	hold := faults.Hold("", 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := store.Enqueue(ctx, []persist.Message{message("m")})
		done <- err
	}()
	<-hold.Reached()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	stats, err := inner.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.Pending)
}

func TestHoldReleasedBefore(t *testing.T) {
	t.Parallel()
	store, faults := NewFaulty(memory.New(memory.Options{}))
	hold := faults.Hold(OpStats, 1)
	hold.Release()
	_, err := store.Stats(t.Context())
	require.NoError(t, err)
	<-hold.Reached()
}

// What the abilities below stand on; none of it is called.
type (
	bare      struct{ persist.Store }
	notifies  struct{}
	processes struct{}
)

func (notifies) Notify() (<-chan struct{}, func()) { return nil, func() {} }

func (processes) ProcessTx(context.Context, func(context.Context, persist.TxProcess[*sql.Tx]) error) error {
	return nil
}

func (processes) WithTx(*sql.Tx) persist.TxOutbox { return outbox{} }

type outbox struct{}

func (outbox) Identity() string { return "" }

func (outbox) Enqueue(context.Context, []persist.Message) ([]persist.Enqueued, error) {
	return nil, nil
}

func TestFaultyHasTheStoresAbilities(t *testing.T) {
	t.Parallel()
	store := bare{memory.New(memory.Options{})}
	for i, inner := range []persist.Store{
		store,
		struct {
			bare
			notifies
		}{bare: store},
		struct {
			bare
			processes
		}{bare: store},
		struct {
			bare
			notifies
			processes
		}{bare: store},
	} {
		faulty, faults := NewFaulty(inner, Fault{Op: OpEnqueueTx}, Fault{Op: OpProcessTx})
		_, ok := faulty.(persist.Notifier)
		require.Equal(t, i&1 != 0, ok, "notifier of %d", i)
		joiner, ok := faulty.(persist.TxJoiner[*sql.Tx])
		require.Equal(t, i&2 != 0, ok, "joiner of %d", i)
		processor, ok := faulty.(persist.TxProcessor[*sql.Tx])
		require.Equal(t, i&2 != 0, ok, "processor of %d", i)
		if ok {
			_, err := joiner.WithTx(nil).Enqueue(t.Context(), nil)
			require.ErrorIs(t, err, ErrInjected)
			_, err = joiner.WithTx(nil).Enqueue(t.Context(), nil)
			require.NoError(t, err)
			require.NoError(t, processor.ProcessTx(t.Context(), nil), "a store that never commits cannot fail to")
		}
		require.Equal(t, i&2, faults.Failed())
		_, err := faulty.Stats(t.Context())
		require.NoError(t, err)
	}
}
