package memory

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

func TestOptionsBounds(t *testing.T) {
	t.Parallel()
	for lanes, want := range map[int]int{-1: 1, 0: 1, 1: 1, 7: 7, 64: 64, 65: 64} {
		infos, err := New(Options{Lanes: lanes}).Lanes(t.Context())
		require.NoError(t, err)
		require.Len(t, infos, want)
	}
	_, err := New(Options{MaxMessages: -1}).Enqueue(t.Context(), []persist.Message{{ID: "m", Topic: "t"}})
	require.NoError(t, err)
}

func TestMillisRoundsUp(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]int64{
		0: 0, 1: 1, time.Microsecond: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Second: 1000,
		1<<63 - 1: (1<<63-1)/1_000_000 + 1,
	} {
		require.Equal(t, want, millis(d), d)
	}
}

// Several messages may have one ID, if their publisher did not ask for more.
// Then each is known, whichever is removed first.
func TestMessagesOfOneID(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}} {
		s := New(Options{Lanes: 2})
		var places []persist.Enqueued
		for i := range 4 {
			got, err := s.Enqueue(t.Context(), []persist.Message{{ID: "a", Topic: "t", OrderingKey: fmt.Sprint(i), Receipt: true}})
			require.NoError(t, err)
			places = append(places, got...)
		}
		for k, i := range order {
			first, err := s.Enqueue(t.Context(), []persist.Message{{ID: "a", Topic: "t", Idempotent: true}})
			require.NoError(t, err)
			require.True(t, first[0].Duplicate)
			n, err := s.PurgeOutbox(t.Context(), persist.ListRequest{Lane: places[i].Lane, After: places[i].Position - 1, Limit: 1})
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.EqualValues(t, 3-k, s.size)
		}
		require.Empty(t, s.byID)
	}
}

func TestAcknowledgeEveryMessageOfAnID(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	m := persist.Message{ID: "a", Topic: "t", Receipt: true}
	_, err := s.Enqueue(t.Context(), []persist.Message{m, m, m})
	require.NoError(t, err)
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	found, err := lane.Acknowledge(t.Context(), []persist.Receipt{{ID: "a"}})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, found)
	require.Zero(t, s.size)
	require.Empty(t, s.byID)
}

// A sequence is compared with a map and a sorted list of its numbers.
func TestSequence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q sequence[int64]
		want := make(map[int64]*int64)
		last := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 80).Draw(t, "n") {
					last += int64(rapid.IntRange(1, 3).Draw(t, "step"))
					value := last
					q.add(last, &value)
					want[last] = &value
				}
			},
			"remove": func(t *rapid.T) {
				from := rapid.Int64Range(0, last+2).Draw(t, "from")
				to := from + rapid.Int64Range(1, 1000).Draw(t, "n")
				for number := from; number < to; number++ {
					q.remove(number)
					delete(want, number)
				}
			},
			"": func(t *rapid.T) {
				after := rapid.Int64Range(-1, last+1).Draw(t, "after")
				var numbers, got []int64
				for number, value := range want {
					require.Same(t, value, q.get(number))
					if number > after {
						numbers = append(numbers, number)
					}
				}
				slices.Sort(numbers)
				for number, value := range q.after(after) {
					require.Equal(t, number, *value)
					got = append(got, number)
				}
				require.Equal(t, numbers, got)
				require.Nil(t, q.get(last+1))
				require.LessOrEqual(t, len(q.slots), 2*len(want)+64, "empty slots are dropped")
			},
		})
	})
}

// A backlog that was drained must not keep its memory.
func TestDrainedBacklogIsFreed(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	msgs := make([]persist.Message, 1000)
	for round := range 50 {
		for i := range msgs {
			msgs[i] = persist.Message{ID: fmt.Sprint(round, ".", i), Topic: "t", Receipt: i%2 == 0}
		}
		_, err := s.Enqueue(t.Context(), msgs)
		require.NoError(t, err)
	}
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	for {
		entries, err := lane.Next(t.Context(), 700, 1<<20)
		require.NoError(t, err)
		if len(entries) == 0 {
			break
		}
		settlements := make([]persist.Settlement, len(entries))
		var receipts []persist.Receipt
		for i, entry := range entries {
			settlements[i] = persist.Settlement{Position: entry.Position, ReceiptTimeout: time.Hour}
			if entry.Message.Receipt {
				receipts = append(receipts, persist.Receipt{ID: entry.Message.ID})
			}
		}
		require.NoError(t, lane.Settle(t.Context(), settlements))
		_, err = lane.Acknowledge(t.Context(), receipts)
		require.NoError(t, err)
	}
	l := s.lanes[0]
	require.Empty(t, s.byID)
	require.Zero(t, s.size+l.pending+l.delivered)
	require.Zero(t, l.waiting.len()+l.ready.len()+len(l.resent))
	require.Less(t, cap(l.entries.slots), 2000)
	runtime.KeepAlive(s)
}

// A key that everybody forgot leaves nothing behind; one that was abandoned
// stays for a day.
func TestMarksAreFreed(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	s := New(Options{Clock: func() time.Time { return now }})
	keys := make([]string, 3000)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Minute, Keys: keys})
	require.NoError(t, err)
	completions := make([]persist.Completion, 1000)
	for i := range completions {
		completions[i].Claim = claims[i]
	}
	_, err = s.Complete(t.Context(), "g", completions, time.Hour)
	require.NoError(t, err)
	require.NoError(t, s.Release(t.Context(), "g", claims[1000:2000]))
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {time.Minute, 1000}, {time.Hour, 1000}, {22 * time.Hour, 0}, {time.Hour, 1000}} {
		now = now.Add(step.after)
		total := 0
		for range 2*len(keys)/100 + 1 {
			n, err := s.ExpireProcessed(t.Context(), 100)
			require.NoError(t, err)
			total += n
		}
		require.Equal(t, step.want, total, "after %v more", step.after)
	}
	require.Empty(t, s.marks.byKey)
	require.Empty(t, s.marks.ring)
	require.Equal(t, [3]int64{}, s.marks.count)
}
