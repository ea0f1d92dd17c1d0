package redis

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// The benchmarks report one operation per message or key, so that ns/op and
// allocs/op are those of one. Payloads are 256 bytes. The server runs on the same
// machine, with appendfsync everysec.

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), testenv.Redis(b, testenv.RedisOptions{}).URL(), Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close(context.Background())) })
	return s
}

func benchMessages(n int) []persist.Message {
	msgs := make([]persist.Message, n)
	for i := range msgs {
		msgs[i] = persist.Message{
			ID: fmt.Sprintf("0190f3d4-7a10-7000-8000-%012d", i), Topic: "bench/topic",
			Payload: make([]byte, 256), QoS: 1,
		}
	}
	return msgs
}

// perSecond adds the rate to the report.
func perSecond(b *testing.B) {
	b.Helper()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// used is the memory that the server uses for data, in bytes.
func used(tb testing.TB, client goredis.Cmdable) int64 {
	tb.Helper()
	usage, err := client.InfoMap(tb.Context(), "memory").Result()
	require.NoError(tb, err)
	n, err := strconv.ParseInt(usage["Memory"]["used_memory_dataset"], 10, 64)
	require.NoError(tb, err)
	return n
}

func BenchmarkEnqueue(b *testing.B) {
	for _, size := range []int{1, 20, 512} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s, msgs := benchStore(b), benchMessages(size)
			before := used(b, s.client)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				_, err := s.Enqueue(b.Context(), msgs)
				require.NoError(b, err)
			}
			perSecond(b)
			b.ReportMetric(float64(used(b, s.client)-before)/float64(b.N), "server-B/msg")
		})
	}
}

// BenchmarkEnqueueTogether is single Enqueues of many goroutines; compare it
// with BenchmarkEnqueue/1, which waits for each.
func BenchmarkEnqueueTogether(b *testing.B) {
	for _, callers := range []int{8, 64, 512} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			s, msgs := benchStore(b), benchMessages(1)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := s.Enqueue(b.Context(), msgs); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			perSecond(b)
		})
	}
}

func BenchmarkDrain(b *testing.B) {
	for name, change := range map[string]func(m *persist.Message){
		"plain":   func(*persist.Message) {},
		"receipt": func(m *persist.Message) { m.Receipt = true },
	} {
		b.Run(name, func(b *testing.B) {
			const page = 512
			s, msgs := benchStore(b), benchMessages(page)
			for i := range msgs {
				change(&msgs[i])
			}
			for i := 0; i < b.N; i += page {
				_, err := s.Enqueue(b.Context(), msgs)
				require.NoError(b, err)
			}
			lane, err := s.AcquireLane(b.Context(), 0, "bench", time.Hour)
			require.NoError(b, err)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				n := drainPage(b, lane, page)
				require.NotZero(b, n)
				done += n
			}
			perSecond(b)
		})
	}
}

// drainPage hands out a page and settles it, and tells how many messages it had.
func drainPage(b *testing.B, lane persist.Lane, page int) int {
	b.Helper()
	entries, err := lane.Next(b.Context(), page, 1<<20)
	require.NoError(b, err)
	if len(entries) == 0 {
		return 0
	}
	settlements := make([]persist.Settlement, len(entries))
	for i := range entries {
		settlements[i] = persist.Settlement{Position: entries[i].Position, ReceiptTimeout: time.Hour}
	}
	require.NoError(b, lane.Settle(b.Context(), settlements))
	return len(entries)
}

// BenchmarkThrough is the way of a message through the store: enqueued in
// groups by one goroutine, handed out and settled by another.
func BenchmarkThrough(b *testing.B) {
	const page = 512
	s, msgs := benchStore(b), benchMessages(page)
	lane, err := s.AcquireLane(b.Context(), 0, "bench", time.Hour)
	require.NoError(b, err)
	wake, stop := s.Notify()
	defer stop()
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; i < b.N; i += page {
			if _, err := s.Enqueue(b.Context(), msgs); err != nil {
				b.Error(err)
				return
			}
		}
	})
	for done := 0; done < b.N; {
		n := drainPage(b, lane, page)
		if n == 0 {
			<-wake
		}
		done += n
	}
	all.Wait()
	perSecond(b)
}

func BenchmarkClaimComplete(b *testing.B) {
	for _, size := range []int{20, 512} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s := benchStore(b)
			before := used(b, s.client)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				claimAndComplete(b, s, i, size)
			}
			perSecond(b)
			b.ReportMetric(float64(used(b, s.client)-before)/float64(b.N), "server-B/key")
		})
	}
}

// BenchmarkClaimCompleteAmong is the same in a store that has many keys already.
func BenchmarkClaimCompleteAmong(b *testing.B) {
	const size = 512
	for _, known := range []int{10_000, 1_000_000} {
		b.Run(strconv.Itoa(known), func(b *testing.B) {
			s := benchStore(b)
			before := used(b, s.client)
			for i := 0; i < known; i += size {
				claimAndComplete(b, s, i, size)
			}
			each := float64(used(b, s.client)-before) / float64(known)
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				claimAndComplete(b, s, known+size+i, size)
			}
			perSecond(b)
			b.ReportMetric(each, "server-B/key")
		})
	}
}

func claimAndComplete(b *testing.B, s *Store, from, n int) {
	b.Helper()
	keys := make([]string, n)
	for j := range keys {
		// As random as a UUID is.
		h := uint64(from+j) * 0x9e3779b97f4a7c15
		keys[j] = fmt.Sprintf("0190f3d4-7a10-7000-%04x-%012x", h>>48, uint64(from+j))
	}
	claims, err := s.Claim(b.Context(), persist.ClaimRequest{Group: "g", Owner: "bench", TTL: time.Minute, Keys: keys})
	require.NoError(b, err)
	completions := make([]persist.Completion, n)
	for j := range claims {
		completions[j].Claim = claims[j]
	}
	_, err = s.Complete(b.Context(), "g", completions, time.Hour)
	require.NoError(b, err)
}

// BenchmarkSession saves packet state as the barrier of QoS 2 does: a batch of
// publications begins while the one before is released and the one before that is
// being settled.
func BenchmarkSession(b *testing.B) {
	for _, batch := range []int{20, 500} {
		b.Run(strconv.Itoa(batch), func(b *testing.B) {
			s := benchStore(b)
			states := make([]persist.PacketState, 3*batch)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += batch {
				for j := range states {
					states[j] = persist.PacketState{PacketID: uint16((i+j)&0x3fff + 1), Step: persist.StepReleased, Position: int64(i + j)}
					if j >= 2*batch {
						states[j].Step = persist.StepPublished
					}
				}
				require.NoError(b, s.SaveSession(b.Context(), persist.Session{ClientID: "bench", Epoch: 1, States: states}))
			}
			perSecond(b)
		})
	}
}
