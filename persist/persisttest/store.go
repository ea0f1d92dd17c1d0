package persisttest

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// storeCases are about the store as a whole.
func storeCases() []testCase {
	return []testCase{
		{tag: "Store", name: "identity", run: checkIdentity},
		{tag: "Store", name: "abilities are as declared", run: checkAbilities},
		{tag: "Store", name: "close is idempotent and final", options: Options{Lanes: 2}, run: checkClosed},
		{tag: "Store", name: "a cancelled context changes nothing", options: Options{Lanes: 2}, run: checkCancelled},
		{tag: "Store", name: "notifications", needs: needsNotifier, run: checkNotify},
	}
}

func checkIdentity(e *env) {
	identity := e.store.Identity()
	require.Regexp(e, `^[0-9a-f]{32}$`, identity)
	require.NotEmpty(e, e.store.Durability())
	other, err := e.h.New(e, Options{Lanes: 1}).Open(e.ctx)
	require.NoError(e, err)
	e.Cleanup(func() { _ = other.Close(context.Background()) })
	require.NotEqual(e, identity, other.Identity(), "two stores have one identity")
	e.crash()
	if e.h.Durable {
		require.Equal(e, identity, e.store.Identity(), "the identity changed with a restart")
	}
}

func checkAbilities(e *env) {
	_, notifies := e.store.(persist.Notifier)
	require.Equal(e, e.h.Notifies, notifies, "persist.Notifier")
	_, transacts := e.backend.(TxBackend)
	require.Equal(e, e.h.Transacts, transacts, "TxBackend")
	_, corrupts := e.backend.(Corrupter)
	require.Equal(e, e.h.Corrupts, corrupts, "Corrupter")
}

// operations are all methods of a store and of a lane that can fail, with
// arguments that are valid and would change something.
func operations(store persist.Store, lane persist.Lane, claim persist.Claim) map[string]func(ctx context.Context) error {
	every := persist.DeadLetterFilter{}
	return map[string]func(ctx context.Context) error{
		"Enqueue": func(ctx context.Context) error {
			_, err := store.Enqueue(ctx, messages("new", 2))
			return err
		},
		"Lookup": func(ctx context.Context) error {
			_, err := store.Lookup(ctx, []persist.Ref{{Position: 1}})
			return err
		},
		"Lanes": func(ctx context.Context) error {
			_, err := store.Lanes(ctx)
			return err
		},
		"AcquireLane": func(ctx context.Context) error {
			_, err := store.AcquireLane(ctx, 1, "another", lease)
			return err
		},
		"AnnounceRelay": func(ctx context.Context) error {
			_, err := store.AnnounceRelay(ctx, "relay", lease)
			return err
		},
		"Time": func(ctx context.Context) error {
			_, err := store.Time(ctx)
			return err
		},
		"Claim": func(ctx context.Context) error {
			_, err := store.Claim(ctx, persist.ClaimRequest{Group: "g", Owner: "o", TTL: lease, Keys: []string{"new"}})
			return err
		},
		"RenewClaims": func(ctx context.Context) error {
			_, err := store.RenewClaims(ctx, "g", []persist.Claim{claim}, 2*lease)
			return err
		},
		"Complete": func(ctx context.Context) error {
			_, err := store.Complete(ctx, "g", []persist.Completion{{Claim: claim}}, time.Hour)
			return err
		},
		"Release": func(ctx context.Context) error {
			return store.Release(ctx, "g", []persist.Claim{claim})
		},
		"ExpireProcessed": func(ctx context.Context) error {
			_, err := store.ExpireProcessed(ctx, 100)
			return err
		},
		"Forget": func(ctx context.Context) error {
			_, err := store.Forget(ctx, "g", []string{"completed"})
			return err
		},
		"LoadSession": func(ctx context.Context) error {
			_, err := store.LoadSession(ctx, "client", 9)
			return err
		},
		"SaveSession": func(ctx context.Context) error {
			return store.SaveSession(ctx, persist.Session{ClientID: "client", Epoch: 1})
		},
		"AddDeadLetters": func(ctx context.Context) error {
			return store.AddDeadLetters(ctx, []persist.DeadLetter{letter("new")})
		},
		"ListDeadLetters": func(ctx context.Context) error {
			_, err := store.ListDeadLetters(ctx, every, 10)
			return err
		},
		"RetryDeadLetters": func(ctx context.Context) error {
			_, err := retryLetters(ctx, store, every, 10)
			return err
		},
		"PurgeDeadLetters": func(ctx context.Context) error {
			_, err := store.PurgeDeadLetters(ctx, every, 10)
			return err
		},
		"Stats": func(ctx context.Context) error {
			_, err := store.Stats(ctx)
			return err
		},
		"ListOutbox": func(ctx context.Context) error {
			_, err := store.ListOutbox(ctx, persist.ListRequest{Limit: 10})
			return err
		},
		"GetOutbox": func(ctx context.Context) error {
			_, err := store.GetOutbox(ctx, "m0")
			return err
		},
		"PurgeOutbox": func(ctx context.Context) error {
			_, err := store.PurgeOutbox(ctx, persist.ListRequest{Limit: 10})
			return err
		},
		"Lane.Renew": func(ctx context.Context) error { return lane.Renew(ctx, 2*lease, false) },
		"Lane.Next": func(ctx context.Context) error {
			_, err := lane.Next(ctx, 10, 1<<20)
			return err
		},
		"Lane.Settle": func(ctx context.Context) error {
			return lane.Settle(ctx, []persist.Settlement{{Position: 1, Outcome: persist.OutcomeFailed}})
		},
		"Lane.Acknowledge": func(ctx context.Context) error {
			_, err := lane.Acknowledge(ctx, []persist.Receipt{{ID: "m0"}})
			return err
		},
		"Lane.Release": func(ctx context.Context) error { return lane.Release(ctx) },
	}
}

// furnish puts something of everything into the store and returns a lease of
// lane 0 and a claim. All messages are in lane 0.
func furnish(e *env) (persist.Lane, persist.Claim) {
	e.Helper()
	for i := range 3 {
		m := with(message("m"+string(rune('0'+i))), func(m *persist.Message) {
			m.OrderingKey, m.Receipt = keyOf(e, 0), true
		})
		e.enqueue(m)
	}
	e.complete(lease, e.claim("completed"))
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("dead")}))
	require.NoError(e, e.store.SaveSession(e.ctx, persist.Session{
		ClientID: "client", Epoch: 1, States: []persist.PacketState{{PacketID: 7, Step: persist.StepPublished}},
	}))
	return e.acquire(0), e.claim("in work")
}

// keyOf is an ordering key of a lane of the store.
func keyOf(e *env, lane int) string {
	e.Helper()
	lanes, err := e.store.Lanes(e.ctx)
	require.NoError(e, err)
	for key := []byte("key a"); ; key[4]++ {
		if persist.LaneOf(string(key), len(lanes)) == lane {
			return string(key)
		}
	}
}

func checkClosed(e *env) {
	lane, claim := furnish(e)
	ops := operations(e.store, lane, claim)
	require.NoError(e, e.store.Close(e.ctx))
	for name, op := range ops {
		require.ErrorIs(e, op(e.ctx), persist.ErrClosed, name)
	}
	require.NoError(e, e.store.Close(e.ctx), "the second close")
}

func checkCancelled(e *env) {
	lane, claim := furnish(e)
	before := snapshot(e)
	cancelled, cancel := context.WithCancel(e.ctx)
	cancel()
	for name, op := range operations(e.store, lane, claim) {
		err := op(cancelled)
		require.ErrorIs(e, err, context.Canceled, name)
		require.NotErrorIs(e, err, persist.ErrUnknownOutcome, name)
	}
	require.Equal(e, before, snapshot(e))

	// What shows in no listing: leases, claims and session epochs.
	require.Len(e, e.next(lane), 3, "a cancelled call handed messages out, or ended the lease")
	_, err := e.store.AcquireLane(e.ctx, 1, "third", lease)
	require.NoError(e, err, "a cancelled call took the lane")
	claims := e.claims("g", lease, "new", "completed")
	require.Equal(e, persist.ClaimGranted, claims[0].State, "a cancelled call claimed the key")
	require.Equal(e, persist.ClaimCompleted, claims[1].State, "a cancelled call forgot the key")
	require.Equal(e, persist.ClaimBusy, e.claim("in work").State, "a cancelled call released the key")
	require.Equal(e, []bool{true}, e.complete(lease, claim))
	states, err := e.store.LoadSession(e.ctx, "client", 1)
	require.NoError(e, err, "a cancelled call raised the session's epoch")
	require.Len(e, states, 1)
}

// snapshot is all that an operator sees of a store, without what time changes.
func snapshot(e *env) map[string]any {
	e.Helper()
	stats := e.stats()
	stats.OldestPending = 0
	for i := range stats.Lanes {
		stats.Lanes[i].Remaining = stats.Lanes[i].Remaining.Round(time.Minute)
	}
	seen := map[string]any{"stats": stats, "dead letters": e.letters(persist.DeadLetterFilter{})}
	for i := range stats.Lanes {
		seen[stats.Lanes[i].Owner+" lane"] = e.stored(i)
	}
	return seen
}

func checkNotify(e *env) {
	notifier := e.store.(persist.Notifier)
	wake, stop := notifier.Notify()
	other, stopOther := notifier.Notify()
	require.Empty(e, wake)
	e.enqueue(message("a"))
	awaitWake(e, wake)
	awaitWake(e, other)
	stopOther()
	for i := range 3 {
		e.enqueue(messages(string(rune('b'+i)), 2)...)
	}
	awaitWake(e, wake)
	require.LessOrEqual(e, len(wake), 1, "wake-ups are coalesced")

	lane := e.acquire(0)
	entry := e.next(lane)[0]
	e.settle(lane, persist.Settlement{Position: entry.Position, Outcome: persist.OutcomeFailed})
	for len(wake) > 0 {
		<-wake
	}
	_, err := e.retry(persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	awaitWake(e, wake)
	stop()
	stop()
	e.enqueue(message("after stop"))
}

// awaitWake waits for a wake-up, which may be on its way still.
func awaitWake(e *env, wake <-chan struct{}) {
	e.Helper()
	select {
	case <-wake:
	case <-e.ctx.Done():
		e.Errorf("no wake-up came")
		e.FailNow()
	}
}
