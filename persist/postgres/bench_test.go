package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

const benchPayload = 256

func benchStore(b *testing.B, opts Options) *Store {
	b.Helper()
	s, err := Open(b.Context(), testenv.Postgres(b, testenv.PostgresOptions{}).URL(), opts)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close(context.Background())) })
	return s
}

func benchMessages(n int) []persist.Message {
	msgs := make([]persist.Message, n)
	payload := make([]byte, benchPayload)
	for i := range msgs {
		id, _ := uuid.NewV7()
		msgs[i] = persist.Message{ID: id.String(), Topic: "bench/topic", Payload: payload, QoS: 1}
	}
	return msgs
}

func perSecond(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkEnqueue512(b *testing.B) {
	s := benchStore(b, Options{})
	msgs := benchMessages(512)
	n := 0
	for b.Loop() {
		_, err := s.Enqueue(b.Context(), msgs)
		require.NoError(b, err)
		n += len(msgs)
	}
	perSecond(b, n)
}

func BenchmarkEnqueue64Callers(b *testing.B) {
	s := benchStore(b, Options{})
	msg := benchMessages(1)
	n := 0
	for b.Loop() {
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for range 100 {
					if _, err := s.Enqueue(b.Context(), msg); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		n += 6400
	}
	perSecond(b, n)
}

// drainLane hands out and settles n messages, a page at a time, with the settling
// of a page beside the reading of the next ones.
func drainLane(b *testing.B, lane persist.Lane, n int) {
	b.Helper()
	for n > 0 {
		entries, err := lane.Next(b.Context(), 256, 1<<20)
		require.NoError(b, err)
		settlements := make([]persist.Settlement, len(entries))
		for i := range entries {
			settlements[i].Position = entries[i].Position
		}
		if len(entries) == 0 {
			time.Sleep(time.Millisecond) //nolint:forbidigo // stands for the wait for a wake-up
			continue
		}
		require.NoError(b, lane.Settle(b.Context(), settlements))
		n -= len(entries)
	}
}

func BenchmarkDrain(b *testing.B) {
	s := benchStore(b, Options{})
	lane, err := s.AcquireLane(b.Context(), 0, "bench", time.Hour)
	require.NoError(b, err)
	const each = 20_480
	n := 0
	for b.Loop() {
		b.StopTimer()
		for range each / 512 {
			_, err := s.Enqueue(b.Context(), benchMessages(512))
			require.NoError(b, err)
		}
		b.StartTimer()
		drainLane(b, lane, each)
		n += each
	}
	perSecond(b, n)
}

// BenchmarkBoth enqueues and drains at the same time.
func BenchmarkBoth(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := benchStore(b, Options{})
			lane, err := s.AcquireLane(b.Context(), 0, "bench", time.Hour)
			require.NoError(b, err)
			const each = 51_200
			size := 512 / callers
			msgs := benchMessages(size)
			n := 0
			for b.Loop() {
				var all sync.WaitGroup
				for range callers {
					all.Go(func() {
						for range each / callers / size {
							if _, err := s.Enqueue(b.Context(), msgs); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				drainLane(b, lane, each/callers/size*callers*size)
				all.Wait()
				n += each / callers / size * callers * size
			}
			perSecond(b, n)
		})
	}
}

func BenchmarkClaimComplete(b *testing.B) {
	s := benchStore(b, Options{})
	n := 0
	for b.Loop() {
		keys := make([]string, 256)
		for i := range keys {
			id, _ := uuid.NewV7()
			keys[i] = id.String()
		}
		claims, err := s.Claim(b.Context(), persist.ClaimRequest{Group: "g", Owner: "bench", TTL: time.Minute, Keys: keys})
		require.NoError(b, err)
		completions := make([]persist.Completion, len(claims))
		for i := range claims {
			completions[i].Claim = claims[i]
		}
		_, err = s.Complete(b.Context(), "g", completions, time.Hour)
		require.NoError(b, err)
		n += len(keys)
	}
	perSecond(b, n)
}
