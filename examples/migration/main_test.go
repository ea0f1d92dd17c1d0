package main

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// Readings that are reported while the broker is away, by a device that is then
// started again, arrive in order and once; the old subscription works beside.
func TestReadingsSurviveAnOutage(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	file := filepath.Join(t.TempDir(), "readings.db")
	settings := make(chan string, 16)

	b.Stop()
	d, err := newDevice(ctx, b.URL(), file, settings)
	require.NoError(t, err)
	const readings = 50
	for i := range readings {
		require.NoError(t, d.report(ctx, strconv.Itoa(i)))
	}
	require.NoError(t, d.close(ctx))

	require.NoError(t, b.Start())
	d, err = newDevice(ctx, b.URL(), file, settings)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return len(b.FirstArrivals("readings/7")) >= readings && b.Subscribers("settings/7") == 1
	}, 30*time.Second, 10*time.Millisecond)
	b.Publish(brokertest.Packet{Topic: "settings/7", Payload: []byte("every minute"), QoS: 1})
	select {
	case s := <-settings:
		require.Equal(t, "every minute", s)
	case <-ctx.Done():
		require.FailNow(t, "no settings")
	}
	require.NoError(t, d.close(ctx))
	got := b.FirstArrivals("readings/7")
	require.Len(t, got, readings)
	for i, a := range got {
		require.Equal(t, strconv.Itoa(i), string(a.Packet.Payload))
	}
}
