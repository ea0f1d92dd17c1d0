package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/persist"
)

// claims measures claiming and completing new keys in stores that remember
// different numbers of keys, in turn. The arguments are the numbers; without
// any, ten thousand and a million.
func (b *bench) claims(ctx context.Context, o options, args []string) error {
	sizes := []int{10_000, 1_000_000}
	if len(args) > 0 {
		sizes = sizes[:0]
		for _, arg := range args {
			n, err := strconv.Atoi(arg)
			if err != nil {
				return err
			}
			sizes = append(sizes, n)
		}
	}
	n := 50_000
	if o.messages > 0 {
		n = o.messages
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "store\tkeys remembered\tmedian claims/s\tof the first")
	for _, kind := range []string{"sqlite", "postgres", "redis"} {
		if o.only != "" && o.only != kind {
			continue
		}
		rates, err := b.claimsOf(ctx, kind, sizes, n, o.rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		for i, size := range sizes {
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%.2f\n", kind, size, median(rates[i]), median(rates[i])/median(rates[0]))
		}
	}
	return w.Flush()
}

func (b *bench) claimsOf(ctx context.Context, kind string, sizes []int, n, rounds int) ([][]float64, error) {
	opened := make([]*place, len(sizes))
	for i, size := range sizes {
		p, err := b.stores.open(ctx, kind)
		if err != nil {
			return nil, err
		}
		defer p.remove()
		opened[i] = p
		took, err := claimAndComplete(ctx, p.store, size)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%s: remembered %d keys in %s\n", kind, size, took.Round(time.Second))
	}
	rates := make([][]float64, len(sizes))
	for round := range rounds {
		for i, p := range opened {
			if p.rest != nil {
				if err := p.rest(ctx); err != nil {
					return nil, err
				}
			}
			took, err := claimAndComplete(ctx, p.store, n)
			if err != nil {
				return nil, err
			}
			rate := float64(n) / took.Seconds()
			rates[i] = append(rates[i], rate)
			fmt.Fprintf(os.Stderr, "round %d  %s with %d keys: %.0f/s\n", round+1, kind, sizes[i], rate)
		}
	}
	return rates, nil
}

// claimAndComplete remembers n new keys, 500 at a time.
func claimAndComplete(ctx context.Context, store persist.Store, n int) (time.Duration, error) {
	const batch = 500
	keys := make([]string, 0, batch)
	completions := make([]persist.Completion, 0, batch)
	start := time.Now()
	for done := 0; done < n; done += len(keys) {
		keys, completions = keys[:0], completions[:0]
		for range min(batch, n-done) {
			keys = append(keys, uuid.Must(uuid.NewV7()).String())
		}
		claims, err := store.Claim(ctx, persist.ClaimRequest{Group: "bench", Owner: "bench", TTL: time.Minute, Keys: keys})
		if err != nil {
			return 0, err
		}
		for _, c := range claims {
			if c.State != persist.ClaimGranted {
				return 0, errors.New("a new key was not granted")
			}
			completions = append(completions, persist.Completion{Claim: c})
		}
		if _, err := store.Complete(ctx, "bench", completions, 24*time.Hour); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
