package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// Three replicas, one of which ends in the middle, over a broker that drops
// connections; every payment is published twice, and booked once.
func TestReplicasBookOnce(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{Seed: 9, DropEvery: brokertest.Range{Min: 60, Max: 120}, DropLimit: 6})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store := "sqlite://" + filepath.ToSlash(filepath.Join(t.TempDir(), "payments.db"))

	var mu sync.Mutex
	booked, by := make(map[string]int), make(map[string]int)
	failed := false
	start := func(name string) (end func()) {
		book := func(_ context.Context, m *autopaho.Received) error {
			mu.Lock()
			defer mu.Unlock()
			if !failed {
				failed = true
				return errors.New("the ledger is locked")
			}
			booked[m.ID]++
			by[name]++
			return nil
		}
		work, stop := context.WithCancel(ctx)
		ready, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- run(work, name, b.URL(), store, book, func() { close(ready) }) }()
		select {
		case <-ready:
		case err := <-ended:
			require.NoError(t, err)
		}
		return func() {
			stop()
			require.NoError(t, <-ended)
		}
	}
	one, two, three := start("one"), start("two"), start("three")
	bank, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}})
	require.NoError(t, err)
	const payments = 100
	for round := range 2 {
		for i := range payments {
			_, err := bank.Publish(ctx, autopaho.Message{
				ID: fmt.Sprintf("payment-%d", i), Topic: fmt.Sprintf("payments/%d", i%7), QoS: 1,
			})
			require.NoError(t, err)
			if round == 0 && i == payments/2 {
				two()
			}
		}
	}
	require.NoError(t, bank.Close(ctx))
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(booked) == payments
	}, 30*time.Second, 10*time.Millisecond)
	one()
	three()
	for id, n := range booked {
		require.Equal(t, 1, n, id)
	}
	require.Len(t, by, 3, "all took part")
}
