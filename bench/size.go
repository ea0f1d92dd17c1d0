package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
)

// size measures what a waiting message and a remembered key take.
func (b *bench) size(ctx context.Context, o options) error {
	n := 300_000
	if o.messages > 0 {
		n = o.messages
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "store\tbytes a message of %d waiting\tbytes a key remembered\t(%d of each)\n", o.size, n)
	for _, kind := range []string{"sqlite", "postgres", "redis"} {
		if o.only != "" && o.only != kind {
			continue
		}
		message, err := b.grows(ctx, kind, n, func(p *place) error { return fillStore(ctx, p.store, o, n) })
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		key, err := b.grows(ctx, kind, n, func(p *place) error {
			_, err := claimAndComplete(ctx, p.store, n)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t\n", kind, message, key)
	}
	return w.Flush()
}

// grows is by how many bytes for each of n things a new store grows.
func (b *bench) grows(ctx context.Context, kind string, n int, fill func(*place) error) (int64, error) {
	p, err := b.stores.open(ctx, kind)
	if err != nil {
		return 0, err
	}
	defer p.remove()
	before, err := p.size(ctx)
	if err != nil {
		return 0, err
	}
	if err := fill(p); err != nil {
		return 0, err
	}
	after, err := p.size(ctx)
	return (after - before) / int64(n), err
}
