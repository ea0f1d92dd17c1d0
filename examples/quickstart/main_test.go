package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

func TestQuickstart(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, run(ctx, b.URL(), filepath.Join(t.TempDir(), "outbox.db")))
	arrivals := b.FirstArrivals("meter/7")
	require.Len(t, arrivals, 1)
	require.Equal(t, "42", string(arrivals[0].Packet.Payload))
}
