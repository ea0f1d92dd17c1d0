package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// The benchmarks report one operation per message or key, so that ns/op and
// allocs/op are those of one. Payloads are 256 bytes.

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "store.db"), Options{})
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

func BenchmarkEnqueue(b *testing.B) {
	for _, size := range []int{1, 20, 500} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s, msgs := benchStore(b), benchMessages(size)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				_, err := s.Enqueue(b.Context(), msgs)
				require.NoError(b, err)
			}
			perSecond(b)
		})
	}
}

// BenchmarkEnqueueTogether is single Enqueues of many goroutines; compare it
// with BenchmarkEnqueue/1, which commits each.
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
			settlements := make([]persist.Settlement, 0, page)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				entries, err := lane.Next(b.Context(), page, 1<<20)
				require.NoError(b, err)
				require.NotEmpty(b, entries)
				settlements = settlements[:0]
				for i := range entries {
					settlements = append(settlements, persist.Settlement{Position: entries[i].Position, ReceiptTimeout: time.Hour})
				}
				require.NoError(b, lane.Settle(b.Context(), settlements))
				done += len(entries)
			}
			perSecond(b)
		})
	}
}

// BenchmarkThrough is the way of a message through the store: enqueued in
// groups by one goroutine, handed out and settled by another.
func BenchmarkThrough(b *testing.B) {
	const page = 500
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
	settlements := make([]persist.Settlement, 0, page)
	for done := 0; done < b.N; {
		entries, err := lane.Next(b.Context(), page, 1<<20)
		require.NoError(b, err)
		if len(entries) == 0 {
			<-wake
			continue
		}
		settlements = settlements[:0]
		for i := range entries {
			settlements = append(settlements, persist.Settlement{Position: entries[i].Position})
		}
		require.NoError(b, lane.Settle(b.Context(), settlements))
		done += len(entries)
	}
	all.Wait()
	perSecond(b)
}

func BenchmarkClaimComplete(b *testing.B) {
	for _, size := range []int{20, 512} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s := benchStore(b)
			keys := make([]string, size)
			completions := make([]persist.Completion, size)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				for j := range keys {
					keys[j] = fmt.Sprintf("0190f3d4-7a10-7000-8000-%012d", i+j)
				}
				claims, err := s.Claim(b.Context(), persist.ClaimRequest{Group: "g", Owner: "bench", TTL: time.Minute, Keys: keys})
				require.NoError(b, err)
				for j := range claims {
					completions[j].Claim = claims[j]
				}
				_, err = s.Complete(b.Context(), "g", completions, time.Hour)
				require.NoError(b, err)
			}
			perSecond(b)
		})
	}
}

// BenchmarkProcess marks keys in transactions of the caller's work.
func BenchmarkProcess(b *testing.B) {
	for _, size := range []int{1, 20, 512} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			s := benchStore(b)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				require.NoError(b, s.ProcessTx(b.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
					for j := range size {
						err := p.Step(ctx, func() error {
							_, err := beginKey(ctx, p, "g", fmt.Sprintf("0190f3d4-7a10-7000-8000-%012d", i+j), time.Hour)
							return err
						})
						if err != nil {
							return err
						}
					}
					return nil
				}))
			}
			perSecond(b)
		})
	}
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
