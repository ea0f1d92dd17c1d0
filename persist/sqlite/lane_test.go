package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func onClock(t *testing.T, opts Options) (*Store, *clock) {
	t.Helper()
	c := newClock()
	opts.Clock = c.now
	opts.Synchronous = SynchronousNormal
	return open(t, file(t), opts), c
}

func acquire(t *testing.T, s *Store, number int) persist.Lane {
	t.Helper()
	lane, err := s.AcquireLane(t.Context(), number, "o", 1000*time.Hour)
	require.NoError(t, err)
	return lane
}

func enqueue(t *testing.T, s *Store, n int, change func(i int, m *persist.Message)) []persist.Enqueued {
	t.Helper()
	msgs := make([]persist.Message, n)
	for i := range msgs {
		msgs[i] = plainMessage(strconv.Itoa(i))
		change(i, &msgs[i])
	}
	places, err := s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	return places
}

// drain calls Next until nothing comes, and returns the IDs.
func drain(t *testing.T, lane persist.Lane, limit, maxBytes int) []string {
	t.Helper()
	var all []string
	for {
		entries, err := lane.Next(t.Context(), limit, maxBytes)
		require.NoError(t, err)
		require.LessOrEqual(t, len(entries), limit)
		size := 0
		for i := range entries {
			all = append(all, entries[i].Message.ID)
			size += len(entries[i].Message.Payload)
		}
		require.True(t, size <= maxBytes || len(entries) == 1)
		if len(entries) == 0 {
			return all
		}
	}
}

func numbers(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// Messages become due behind the cursor in number, and are handed out page by
// page, whatever ends a page.
func TestLateMessagesInPages(t *testing.T) {
	t.Parallel()
	for _, bounds := range [][2]int{{1, 1 << 20}, {3, 1 << 20}, {100, 5}, {7, 11}, {1000, 1 << 20}} {
		s, clock := onClock(t, Options{Lanes: 2})
		lane := acquire(t, s, 0)
		key := keyIn(0, 2)
		enqueue(t, s, 60, func(i int, m *persist.Message) {
			m.OrderingKey = key
			if i%3 == 0 {
				m.Delay = time.Duration(i%5+1) * time.Minute
			}
		})
		enqueue(t, s, 60, func(_ int, m *persist.Message) { m.OrderingKey, m.Delay = keyIn(1, 2), time.Second })
		require.Len(t, drain(t, lane, bounds[0], bounds[1]), 40)
		var late []string
		for _, d := range []time.Duration{time.Minute, 5 * time.Minute} { // one due, then four
			clock.advance(d)
			late = append(late, drain(t, lane, bounds[0], bounds[1])...)
		}
		require.Len(t, late, 20)
		slices.Sort(late)
		require.Len(t, slices.Compact(late), 20, "each once")
		require.NoError(t, lane.Release(t.Context()))
		require.Equal(t, numbers(0, 60), drain(t, acquire(t, s, 0), bounds[0], bounds[1]), "now all are due, and none is late")
	}
}

func keyIn(lane, lanes int) string {
	for i := 0; ; i++ {
		if key := strconv.Itoa(i); persist.LaneOf(key, lanes) == lane {
			return key
		}
	}
}

// Many messages are returned at once, and come again in pages, before what
// follows.
func TestReturnedMessagesInPages(t *testing.T) {
	t.Parallel()
	s, _ := onClock(t, Options{})
	lane := acquire(t, s, 0)
	enqueue(t, s, 50, func(int, *persist.Message) {})
	entries, err := lane.Next(t.Context(), 30, 1<<20)
	require.NoError(t, err)
	var settlements []persist.Settlement
	for i, e := range slices.Backward(entries) {
		outcome := persist.OutcomeReturned
		if i%10 == 0 {
			outcome = persist.OutcomeDelivered
		}
		settlements = append(settlements, persist.Settlement{Position: e.Position, Outcome: outcome})
	}
	require.NoError(t, lane.Settle(t.Context(), settlements))
	want := slices.DeleteFunc(numbers(0, 50), func(id string) bool { return id == "0" || id == "10" || id == "20" })
	require.Equal(t, want, drain(t, lane, 4, 7))
	require.Empty(t, drain(t, lane, 4, 7))
}

// A message is returned, and its acknowledgement comes after all: it is gone,
// and those around it are not.
func TestReturnedAndSettled(t *testing.T) {
	t.Parallel()
	s, _ := onClock(t, Options{})
	lane := acquire(t, s, 0)
	places := enqueue(t, s, 3, func(int, *persist.Message) {})
	drain(t, lane, 10, 1<<20)
	for i, outcome := range []persist.Outcome{persist.OutcomeReturned, persist.OutcomeReturned, persist.OutcomeReturned} {
		require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{{Position: places[i].Position, Outcome: outcome}}))
	}
	require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{
		{Position: places[0].Position, Outcome: persist.OutcomeRetry, Reason: "later"},
		{Position: places[1].Position, Outcome: persist.OutcomeDelivered},
	}))
	require.Equal(t, []string{"2"}, drain(t, lane, 10, 1<<20), "the first is with the holder again")
}

// The clock goes back an hour between a delivery and the one before it. Had the
// second receipt's time-out been counted from there, its end would lie behind
// what Next has looked at, and the message would not be sent again before the
// lane has a new holder.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	s, clock := onClock(t, Options{})
	lane := acquire(t, s, 0)
	place := enqueue(t, s, 1, func(_ int, m *persist.Message) { m.Receipt = true })[0]
	require.Len(t, drain(t, lane, 10, 1<<20), 1)
	clock.advance(-time.Hour)
	require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{{Position: place.Position, ReceiptTimeout: time.Minute}}))
	require.Empty(t, drain(t, lane, 10, 1<<20))
	clock.advance(2 * time.Hour)
	require.Len(t, drain(t, lane, 10, 1<<20), 1)
	require.Empty(t, drain(t, lane, 10, 1<<20))
}

// Settlements of a page are few statements whatever is among them: plain
// messages, such as await a receipt, several time-outs, gaps.
func TestSettleMixedRuns(t *testing.T) {
	t.Parallel()
	s, clock := onClock(t, Options{})
	lane := acquire(t, s, 0)
	places := enqueue(t, s, 100, func(i int, m *persist.Message) { m.Receipt = i%4 == 3 })
	drain(t, lane, 1000, 1<<20)
	var settlements []persist.Settlement
	for i, place := range places {
		if i%10 == 9 {
			continue // not settled
		}
		settlements = append(settlements, persist.Settlement{
			Position: place.Position, ReceiptTimeout: time.Duration(i/20+1) * time.Minute,
		})
	}
	settlements = append(settlements, settlements[0], settlements[3])
	slices.Reverse(settlements)
	require.NoError(t, lane.Settle(t.Context(), settlements))
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 10, stats.Pending)
	require.EqualValues(t, 20, stats.Delivered)
	for round := range 5 {
		clock.advance(time.Minute)
		for _, id := range drain(t, lane, 1000, 1<<20) {
			n, err := strconv.Atoi(id)
			require.NoError(t, err)
			require.Equal(t, round, n/20)
			require.Equal(t, 3, n%4)
		}
	}
}

func TestLongKeys(t *testing.T) {
	t.Parallel()
	s, _ := onClock(t, Options{})
	long := strings.Repeat("k", maxKeyBytes+1)
	sum := sha256.Sum256([]byte(long))
	keys := []string{
		long, long[1:], long + "x", strings.Repeat("k", 1<<16), string(sum[:]), "", "\x00", "\xff\xfe", "a\x00b", "a",
	}
	for range 2 {
		for _, key := range keys {
			claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{key}})
			require.NoError(t, err)
			require.Equal(t, persist.ClaimGranted, claims[0].State, "%.20q", key)
			require.Equal(t, key, claims[0].Key)
			require.Equal(t, persist.ClaimBusy, claimKey(t, s, key).State)
			done, err := s.Complete(t.Context(), "g", []persist.Completion{{Claim: claims[0]}}, time.Hour)
			require.NoError(t, err)
			require.Equal(t, []bool{true}, done)
		}
		n, err := s.Forget(t.Context(), "g", keys)
		require.NoError(t, err)
		require.Equal(t, len(keys), n)
	}
}

// Each process lives for one step of the sweep, and the sweep gets round.
func TestSweepGoesOn(t *testing.T) {
	t.Parallel()
	path, clock := file(t), newClock()
	opts := Options{Clock: clock.now, Synchronous: SynchronousNormal}
	s := open(t, path, opts)
	for _, group := range []string{"a", "b"} {
		for i := range 25 {
			claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: group, TTL: time.Minute, Keys: []string{fmt.Sprintf("%03d", i)}})
			require.NoError(t, err)
			if i%5 == 0 {
				continue // abandoned
			}
			_, err = s.Complete(t.Context(), group, []persist.Completion{{Claim: claims[0]}}, time.Duration(i%2*2+1)*time.Hour)
			require.NoError(t, err)
		}
	}
	sweep := func() (forgotten int) {
		for range 7 { // 7 × 8 > 50 keys
			s, err := Open(t.Context(), path, opts)
			require.NoError(t, err)
			n, err := s.ExpireProcessed(t.Context(), 8)
			require.NoError(t, err)
			require.LessOrEqual(t, n, 8)
			forgotten += n
			require.NoError(t, s.Close(context.Background()))
		}
		return forgotten
	}
	require.Zero(t, sweep())
	clock.advance(2 * time.Hour)
	require.Equal(t, 20, sweep(), "windows of an hour")
	clock.advance(2 * time.Hour)
	require.Equal(t, 20, sweep(), "windows of three hours")
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.Completed)
	require.EqualValues(t, 10, stats.InWork)
	clock.advance(uncompletedFor)
	require.Equal(t, 10, sweep(), "abandoned keys")
}

// A letter that came without a message ID gets one when it is sent again.
func TestRetryWithoutID(t *testing.T) {
	t.Parallel()
	s, _ := onClock(t, Options{})
	require.NoError(t, s.AddDeadLetters(t.Context(), []persist.DeadLetter{
		{Side: persist.SideConsumer, State: persist.StateFailed, Message: persist.Message{Topic: "t"}},
		{Side: persist.SideConsumer, State: persist.StateFailed, Message: persist.Message{Topic: "t"}},
	}))
	letters, err := s.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	_, err = s.RetryDeadLetters(t.Context(), []persist.Retry{letters[0].Retry(), letters[1].Retry()})
	require.NoError(t, err)
	ids := stored(t, s, 1)
	require.NotEqual(t, ids[0], ids[1])
	require.Contains(t, ids[0], s.Identity())
}

func TestNotify(t *testing.T) {
	t.Parallel()
	s, _ := onClock(t, Options{})
	one, stopOne := s.Notify()
	two, stopTwo := s.Notify()
	enqueue(t, s, 1, func(int, *persist.Message) {})
	enqueue(t, s, 1, func(int, *persist.Message) {})
	require.Len(t, one, 1, "coalesced")
	require.Len(t, two, 1)
	stopOne()
	stopOne()
	<-one
	<-two
	claimKey(t, s, "k")
	require.Empty(t, two, "nothing became due")
	enqueue(t, s, 1, func(int, *persist.Message) {})
	require.Empty(t, one)
	require.Len(t, two, 1)
	stopTwo()
}

// Nothing else happens in the store when a transaction of the caller commits.
func TestNotifyOfEnqueueTx(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	db := database(t, path, "")
	wake, stop := s.Notify()
	defer stop()
	for _, commit := range []bool{true, true, false} {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("a")})
		require.NoError(t, err)
		require.Empty(t, wake, "not before the commit")
		if !commit {
			require.NoError(t, tx.Rollback())
			continue
		}
		require.NoError(t, tx.Commit())
		select {
		case <-wake:
		case <-time.After(10 * time.Second):
			require.Fail(t, "nobody was woken")
		}
	}
}

// Renew may be called at any time, Next and Settle by another goroutine
// meanwhile.
func TestRenewBesideNext(t *testing.T) {
	t.Parallel()
	s, _ := onClock(t, Options{})
	lane := acquire(t, s, 0)
	var all sync.WaitGroup
	all.Go(func() {
		for range 50 {
			if err := lane.Renew(context.Background(), time.Hour, false); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		enqueue(t, s, 1, func(int, *persist.Message) {})
		for _, e := range drain(t, lane, 10, 1<<20) {
			require.Equal(t, "0", e)
		}
	}
	all.Wait()
}
