package memory

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// BenchmarkOutbox is the way of a message through the store, in pages of 500,
// with many others waiting behind it.
func BenchmarkOutbox(b *testing.B) {
	for _, waiting := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			const page = 500
			s := New(Options{})
			msgs := make([]persist.Message, page)
			for i := range msgs {
				msgs[i] = persist.Message{ID: fmt.Sprintf("%032d", i), Topic: "bench", Payload: make([]byte, 256), QoS: 1}
			}
			for range waiting / page {
				if _, err := s.Enqueue(b.Context(), msgs); err != nil {
					b.Fatal(err)
				}
			}
			lane, err := s.AcquireLane(b.Context(), 0, "bench", time.Hour)
			if err != nil {
				b.Fatal(err)
			}
			settlements := make([]persist.Settlement, page)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%page != 0 {
					continue // a page is the work of so many messages
				}
				if _, err := s.Enqueue(b.Context(), msgs); err != nil {
					b.Fatal(err)
				}
				entries, err := lane.Next(b.Context(), page, 1<<30)
				if err != nil {
					b.Fatal(err)
				}
				for i := range entries {
					settlements[i].Position = entries[i].Position
				}
				if err := lane.Settle(b.Context(), settlements[:len(entries)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkClaim is the way of a dedup key, in batches of 100.
func BenchmarkClaim(b *testing.B) {
	const batch = 100
	s := New(Options{})
	keys := make([]string, batch)
	completions := make([]persist.Completion, batch)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%batch != 0 {
			continue
		}
		for i := range keys {
			keys[i] = fmt.Sprint(n + i)
		}
		claims, err := s.Claim(b.Context(), persist.ClaimRequest{Group: "g", TTL: time.Minute, Keys: keys})
		if err != nil {
			b.Fatal(err)
		}
		for i := range claims {
			completions[i].Claim = claims[i]
		}
		if _, err := s.Complete(b.Context(), "g", completions, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
