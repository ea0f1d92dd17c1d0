package autopaho_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A dead letter that the store does not take was tried again without a pause once the
// subscription closed, for as long as that might last. It is given back.
func TestCloseGivesBackWhatCannotBeBuried(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for name, cfg := range map[string]autopaho.SubscribeConfig{
		"one":  {Handler: func(context.Context, *autopaho.Received) error { return autopaho.Permanent(errors.New("no")) }},
		"many": {BatchHandler: func(context.Context, []*autopaho.Received) error { return autopaho.Permanent(errors.New("no")) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 60*time.Second)
			store, faults := persisttest.NewFaulty(memoryStore(t), persisttest.Fault{Op: persisttest.OpAddDeadLetters, Times: -1})
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
			cfg.Filters = []string{name}
			s, err := c.Subscribe(ctx, cfg)
			require.NoError(t, err)
			_, err = c.Publish(ctx, autopaho.Message{Topic: name, QoS: 1})
			require.NoError(t, err)
			eventually(t, func() bool { return faults.Calls(persisttest.OpAddDeadLetters) > 0 }, 30*time.Second, time.Millisecond, "a dead letter")
			patience, end := context.WithTimeout(ctx, 20*time.Second)
			defer end()
			require.NoError(t, s.Close(patience))
			require.Less(t, faults.Calls(persisttest.OpAddDeadLetters), 100)
		})
	}
}
