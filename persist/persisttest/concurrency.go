package persisttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// concurrencyCases are about many callers at once.
func concurrencyCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-2", name: "64 callers", options: Options{Lanes: 4}, run: checkConcurrentEnqueue},
		{tag: "OUTBOX-4", name: "64 callers with one ID", options: Options{Lanes: 4}, run: checkConcurrentDuplicates},
		{tag: "OUTBOX-7", name: "nothing is skipped while others commit", run: checkDrainWhileEnqueue},
		{tag: "OUTBOX-9", name: "64 callers and a limit", options: Options{Limits: persist.Limits{Messages: 40}}, run: checkConcurrentLimit},
		{tag: "LEASE-3", name: "takeover during the drain", run: checkTakeover},
		{tag: "LEASE-1", name: "renewed during the drain", run: checkRenewWhileDrain},
		{tag: "CLAIM-4", name: "workers share the keys", run: checkWorkers},
		{tag: "Store", name: "close while calls are under way", run: checkCloseUnderLoad},
	}
}

func checkConcurrentEnqueue(e *env) {
	const callers, calls, each = 64, 4, 3
	handles := []persist.Store{e.store, e.handle()}
	var places [callers][]persist.Enqueued
	e.together(callers, func(i int) error {
		for call := range calls {
			msgs := make([]persist.Message, each)
			for k := range msgs {
				msgs[k] = with(message(fmt.Sprintf("%d.%02d", i, call*each+k)), func(m *persist.Message) { m.OrderingKey = fmt.Sprint(i) })
			}
			got, err := handles[i%len(handles)].Enqueue(e.ctx, msgs)
			if err != nil {
				return err
			}
			places[i] = append(places[i], got...)
		}
		return nil
	})
	taken := make(map[persist.Ref]string)
	for i := range places {
		last := int64(0)
		for k, place := range places[i] {
			id := fmt.Sprintf("%d.%02d", i, k)
			require.Empty(e, taken[place.Ref], "one place for two messages")
			taken[place.Ref] = id
			require.Greater(e, place.Position, last, "the order of one caller")
			last = place.Position
		}
	}
	seen := 0
	for number := range 4 {
		last := int64(0)
		for _, entry := range e.next(e.acquire(number)) {
			require.Equal(e, taken[entry.Ref], entry.Message.ID)
			require.Greater(e, entry.Position, last)
			last = entry.Position
			seen++
		}
	}
	require.Equal(e, callers*calls*each, seen)
	require.EqualValues(e, seen, e.stats().Pending)
}

func checkConcurrentDuplicates(e *env) {
	handles := []persist.Store{e.store, e.handle()}
	var first atomic.Int32
	var places [64]persist.Enqueued
	e.together(64, func(i int) error {
		got, err := handles[i%len(handles)].Enqueue(e.ctx, []persist.Message{
			message(fmt.Sprint("x", i)), idempotent("a", fmt.Sprint(i)),
		})
		if err != nil {
			return err
		}
		if places[i] = got[1]; !got[1].Duplicate {
			first.Add(1)
		}
		return nil
	})
	require.EqualValues(e, 1, first.Load(), "the first of 64")
	for _, place := range places {
		require.Equal(e, places[0].Ref, place.Ref)
	}
	require.EqualValues(e, 65, e.stats().Pending)
}

func checkDrainWhileEnqueue(e *env) {
	const callers, calls, each = 16, 8, 2
	other := e.handle()
	lane := e.acquire(0)
	stop, drained := make(chan struct{}), make(chan error, 1)
	seen := make(map[string]int)
	last := make(map[string]int64) // by caller
	drain := func() error {
		entries, err := lane.Next(e.ctx, 7, 1<<20)
		for len(entries) > 0 && err == nil {
			settlements := make([]persist.Settlement, len(entries))
			for i, entry := range entries {
				seen[entry.Message.ID]++
				if entry.Position <= last[entry.Message.Properties.ContentType] {
					return fmt.Errorf("%s was handed out after position %d of its caller", entry.Message.ID, entry.Position)
				}
				last[entry.Message.Properties.ContentType] = entry.Position
				settlements[i].Position = entry.Position
			}
			if err = lane.Settle(e.ctx, settlements); err != nil {
				return err
			}
			entries, err = lane.Next(e.ctx, 7, 1<<20)
		}
		return err
	}
	go func() {
		for {
			select {
			case <-stop:
				drained <- drain()
				return
			default:
				if err := drain(); err != nil {
					drained <- err
					return
				}
			}
		}
	}()
	e.together(callers, func(i int) error {
		for call := range calls {
			msgs := messages(fmt.Sprintf("%d.%d.", i, call), each)
			for k := range msgs {
				msgs[k].Properties.ContentType = fmt.Sprint("caller", i)
			}
			if _, err := other.Enqueue(e.ctx, msgs); err != nil {
				return err
			}
		}
		return nil
	})
	close(stop)
	require.NoError(e, <-drained)
	require.Len(e, seen, callers*calls*each, "skipped")
	for id, n := range seen {
		require.Equal(e, 1, n, id)
	}
	require.Zero(e, e.stats().Pending)
}

func checkConcurrentLimit(e *env) {
	handles := []persist.Store{e.store, e.handle()}
	var stored atomic.Int32
	e.together(64, func(i int) error {
		_, err := handles[i%len(handles)].Enqueue(e.ctx, messages(fmt.Sprint(i, "."), 1+i%3))
		if err == nil {
			stored.Add(int32(1 + i%3))
		} else if !errors.Is(err, persist.ErrOutboxFull) {
			return err
		}
		return nil
	})
	require.LessOrEqual(e, stored.Load(), int32(40))
	require.GreaterOrEqual(e, stored.Load(), int32(38), "there was room")
	require.EqualValues(e, stored.Load(), e.stats().Pending)
	require.Len(e, e.stored(0), int(stored.Load()))
}

// checkTakeover lets holders lose their leases while they drain: what one of
// them settled before it lost the lane is settled once, and the rest is handed
// to the next.
func checkTakeover(e *env) {
	const n = 200
	for i := range n / 20 {
		e.enqueue(messages(fmt.Sprint(i, "."), 20)...)
	}
	delivered := make([]map[string]bool, 5)
	lanes := make([]persist.Lane, len(delivered))
	handles := []persist.Store{e.store, e.handle()}
	for i := range delivered {
		delivered[i] = make(map[string]bool)
	}
	// Each holder drains page by page until its lease is lost; the next one
	// takes the lane over in the middle.
	drain := func(i int, pages int) error {
		for range pages {
			entries, err := lanes[i].Next(e.ctx, 10, 1<<20)
			if errors.Is(err, persist.ErrLeaseLost) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, entry := range entries {
				err := lanes[i].Settle(e.ctx, []persist.Settlement{{Position: entry.Position}})
				if errors.Is(err, persist.ErrLeaseLost) {
					return nil
				}
				if err != nil {
					return err
				}
				delivered[i][entry.Message.ID] = true
			}
		}
		return nil
	}
	for i := range lanes {
		var err error
		lanes[i], err = handles[i%2].AcquireLane(e.ctx, 0, fmt.Sprint("holder", i), lease)
		require.NoError(e, err)
		if i+1 == len(lanes) {
			require.NoError(e, drain(i, n))
			break
		}
		e.advance(2 * lease) // it does not know
		ready := make(chan struct{})
		e.together(2, func(who int) error {
			if who == 0 {
				err := drain(i, 2)
				close(ready)
				return errors.Join(err, drain(i, n/10))
			}
			<-ready
			lane, err := handles[(i+1)%2].AcquireLane(e.ctx, 0, "intruder", lease)
			if err != nil {
				return err
			}
			return lane.Release(e.ctx)
		})
	}
	times := make(map[string]int)
	for _, ids := range delivered {
		for id := range ids {
			times[id]++
		}
	}
	require.Len(e, times, n, "lost in a takeover")
	for id, count := range times {
		require.Equal(e, 1, count, "%s was settled by two holders", id)
	}
	require.Zero(e, e.stats().Pending)
}

// checkRenewWhileDrain renews from another goroutine than the one that drains,
// as the holder of a lease does.
func checkRenewWhileDrain(e *env) {
	const n = 300
	e.enqueue(messages("m", n)...)
	lane := e.acquire(0)
	seen := 0
	drained := make(chan struct{})
	e.together(2, func(who int) error {
		if who == 0 {
			defer close(drained)
			for seen < n {
				entries, err := lane.Next(e.ctx, 7, 1<<20)
				if err != nil {
					return err
				}
				for _, entry := range entries {
					if err := lane.Settle(e.ctx, []persist.Settlement{{Position: entry.Position}}); err != nil {
						return err
					}
					seen++
				}
			}
			return nil
		}
		for {
			if err := lane.Renew(e.ctx, 3*lease, false); err != nil {
				return err
			}
			select {
			case <-drained:
				return nil
			default:
			}
		}
	})
	require.Equal(e, n, seen)
	e.advance(2 * lease)
	e.held(0)
}

// checkWorkers lets replicas claim, give back and complete the same keys.
func checkWorkers(e *env) {
	const workers, keys = 8, 25
	handles := []persist.Store{e.store, e.handle(), e.handle()}
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint("key", i)
	}
	var inWork, done [keys]atomic.Int32
	e.together(workers, func(w int) error {
		store := handles[w%len(handles)]
		left := slices.Clone(names)
		for range 5000 {
			if len(left) == 0 {
				return nil
			}
			claims, err := store.Claim(e.ctx, persist.ClaimRequest{Group: "g", Owner: fmt.Sprint(w), TTL: lease, Keys: left})
			if err != nil {
				return err
			}
			left = left[:0:0]
			for i, claim := range claims {
				var key int
				if _, err := fmt.Sscanf(claim.Key, "key%d", &key); err != nil {
					return err
				}
				if claim.State == persist.ClaimCompleted {
					continue
				}
				left = append(left, claim.Key)
				if claim.State == persist.ClaimBusy {
					continue
				}
				if inWork[key].Add(1) != 1 {
					return fmt.Errorf("%s is in work twice", claim.Key)
				}
				if done[key].Load() != 0 {
					return fmt.Errorf("%s was completed before", claim.Key)
				}
				inWork[key].Add(-1) // before it is given back or completed
				if (claim.Attempts+i+w)%3 == 0 {
					if err := store.Release(e.ctx, "g", claims[i:i+1]); err != nil {
						return err
					}
					continue
				}
				done[key].Add(1)
				ok, err := store.Complete(e.ctx, "g", []persist.Completion{{Claim: claim}}, 100*time.Hour)
				if err != nil {
					return err
				}
				if !ok[0] {
					return fmt.Errorf("%s was not completed for its holder", claim.Key)
				}
			}
		}
		return fmt.Errorf("%d keys stay in work for ever", len(left))
	})
	for key := range done {
		require.EqualValues(e, 1, done[key].Load(), "completions of key%d", key)
	}
}

// checkCloseUnderLoad demands that every call that races with Close either
// succeeds, and then has happened, or fails with ErrClosed, and has not.
func checkCloseUnderLoad(e *env) {
	var stored [16]int
	closing := make(chan struct{})
	var closed atomic.Bool
	e.together(17, func(i int) error {
		if i == 16 {
			<-closing
			err := e.store.Close(context.Background())
			closed.Store(true)
			return err
		}
		for n := 0; ; n++ {
			late := closed.Load()
			_, err := e.store.Enqueue(e.ctx, []persist.Message{message(fmt.Sprint(i, ".", n))})
			if errors.Is(err, persist.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			if late {
				return errors.New("a message was accepted after Close had returned")
			}
			stored[i]++
			if i == 0 && n == 5 {
				close(closing)
			}
		}
	})
	if !e.h.Durable {
		return
	}
	e.store = e.open()
	total := 0
	for _, n := range stored {
		total += n
	}
	require.EqualValues(e, total, e.stats().Pending)
}
