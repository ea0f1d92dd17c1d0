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

// Readings over the limit close their valves, each once, although a valve sticks at
// the first attempt and the broker drops connections; every kind has the level of
// its policy.
func TestPlant(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{Seed: 5, DropEvery: brokertest.Range{Min: 30, Max: 60}, DropLimit: 4})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	var mu sync.Mutex
	moved, stuck := make(map[string]int), make(map[string]bool)
	move := func(valve, command string) error {
		mu.Lock()
		defer mu.Unlock()
		if !stuck[valve] {
			stuck[valve] = true
			return errors.New("it sticks")
		}
		moved[valve+" "+command]++
		return nil
	}
	work, end := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- run(work, b.URL(), filepath.Join(t.TempDir(), "plant.db"), move, func() { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		require.NoError(t, err)
	}
	sensors, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}})
	require.NoError(t, err)
	const hot = 20
	for i := range 2 * hot {
		value := "21.5"
		if i%2 == 0 {
			value = "93.5"
		}
		_, err := sensors.Publish(ctx, autopaho.Message{
			ID: fmt.Sprintf("reading-%d", i), Topic: fmt.Sprintf("sensors/%d", i), Payload: []byte(value), QoS: 1,
		})
		require.NoError(t, err)
	}
	require.NoError(t, sensors.Close(ctx))
	commands := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(moved)
	}
	require.Eventually(t, func() bool { return commands() >= hot }, 40*time.Second, 10*time.Millisecond)
	end()
	require.NoError(t, <-ended)
	require.Len(t, moved, hot)
	for command, n := range moved {
		require.Equal(t, 1, n, command)
	}
	require.Equal(t, "reading-0/alerts/0", b.FirstArrivals("alerts/0")[0].MessageID, "made of its cause")
	require.EqualValues(t, 1, b.FirstArrivals("alerts/0")[0].Packet.QoS)
	require.EqualValues(t, 2, b.FirstArrivals("actuators/valves/0")[0].Packet.QoS)
}
