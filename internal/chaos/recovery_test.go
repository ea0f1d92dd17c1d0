package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/memory"
)

// How soon after the broker is back the first message leaves.
const (
	recoveryMedian = 300 * time.Millisecond
	recoveryWorst  = 1500 * time.Millisecond // 99 of 100
)

// The broker goes away and comes back, ONCEMQ_RECOVERY_ROUNDS times, after a time
// that comes from the seed. A message waits for it each time.
func TestRecovery(t *testing.T) {
	t.Parallel()
	rounds := setting(t, "ONCEMQ_RECOVERY_ROUNDS", 12)
	random := rand.New(rand.NewPCG(seed(t), 1))
	broker, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	defer broker.Close()
	store := memory.New(memory.Options{})
	defer func() { require.NoError(t, store.Close(context.Background())) }()
	client, err := autopaho.New(t.Context(), autopaho.Config{Servers: []string{broker.URL()}, Store: store})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close(context.Background())) }()
	sent := 0
	send := func() {
		_, err := client.Enqueue(t.Context(), autopaho.Message{Topic: "t"})
		require.NoError(t, err)
		sent++
	}
	arrived := func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, broker.WaitFirstArrivals(ctx, sent))
	}
	send()
	arrived()
	var took []time.Duration
	for range rounds {
		broker.Stop()
		send()
		timer := time.NewTimer(between(random, 100*time.Millisecond, 3*time.Second))
		<-timer.C
		require.NoError(t, broker.Start())
		back := time.Now()
		arrived()
		took = append(took, time.Since(back))
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)*99/100]
	t.Logf("RESULT first message after the broker is back, %d times: median %s, 99 of 100 within %s, slowest %s", rounds,
		median.Round(time.Millisecond), worst.Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	require.Less(t, median, recoveryMedian+loadAllowance/5)
	require.Less(t, worst, recoveryWorst+loadAllowance)
}
