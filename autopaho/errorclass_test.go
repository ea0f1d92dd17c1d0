package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

func TestClassOf(t *testing.T) {
	t.Parallel()
	for want, errs := range map[autopaho.ErrorClass][]error{
		"": {nil},
		autopaho.ClassAuthentication: {
			&autopaho.ConnackError{Code: 0x86}, &autopaho.DisconnectError{Code: 0x87}, &autopaho.SubscribeError{Code: 0x87},
			&autopaho.DeliveryError{ReasonCode: 0x87},
		},
		autopaho.ClassProtocol: {
			&autopaho.ConnackError{Code: 0x85}, &autopaho.DisconnectError{Code: 0x82}, autopaho.ErrDuplicateClientID,
			&autopaho.DeliveryError{ReasonCode: 0x97},
		},
		autopaho.ClassNetwork:     {autopaho.ErrConnectionLost, &autopaho.DisconnectError{Code: 0x8B}},
		autopaho.ClassTimeout:     {context.DeadlineExceeded, &autopaho.DisconnectError{Code: 0x8D}},
		autopaho.ClassStorage:     {&autopaho.BreakerError{Err: errors.New("x")}, &persist.Error{Err: context.DeadlineExceeded}},
		autopaho.ClassApplication: {errors.New("x"), autopaho.ErrConfig, &autopaho.PanicError{}, autopaho.ErrHandlerTimeout},
	} {
		for _, err := range errs {
			require.Equal(t, want, autopaho.ClassOf(err), "%v", err)
			if err != nil {
				require.Equal(t, want, autopaho.ClassOf(fmt.Errorf("outer: %w", err)))
			}
		}
	}
}

// The classes of what really comes: a port where nobody listens, and a broker that
// refuses.
func TestClassOfStatus(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"ann": "secret"}})
	for server, want := range map[string]autopaho.ErrorClass{
		"mqtt://127.0.0.1:1": autopaho.ClassNetwork, b.URL(): autopaho.ClassAuthentication,
	} {
		c := client(t, autopaho.Config{Servers: []string{server}, Username: "ann"})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		go func() {
			_, _ = c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"a"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
			})
		}()
		require.Eventually(t, func() bool {
			all := c.Status(ctx).Connections
			return len(all) == 1 && autopaho.ClassOf(all[0].LastError) == want
		}, 20*time.Second, 5*time.Millisecond, server)
		cancel()
	}
}
