package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

// ackCodes are the reason codes of all PUBACK and PUBREC that a broker has got from
// subscribers.
type ackCodes struct {
	mu    sync.Mutex
	codes []byte
}

// see is a broker's Intercept.
func (a *ackCodes) see(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
	if d == brokertest.In && (p.Type == brokertest.PUBACK || p.Type == brokertest.PUBREC) {
		a.mu.Lock()
		a.codes = append(a.codes, p.Code)
		a.mu.Unlock()
	}
	return brokertest.Pass
}

func (a *ackCodes) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.codes)
}

// requireNone demands that no message was refused: a broker discards one of a shared
// subscription that is [MQTT-4.8.2-6].
func (a *ackCodes) requireNone(t *testing.T, b *brokertest.Broker) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NotEmpty(t, a.codes)
	for i, code := range a.codes {
		require.Less(t, code, byte(0x80), "acknowledgement %d", i+1)
	}
	require.Zero(t, b.Stats().Refusals)
	require.Empty(t, b.Violations())
}

// Whatever becomes of a message, the broker is never told that it was refused: not
// when its handler fails, panics or runs out of time, when it is given up, put
// aside, given back or too old, when the store fails, or when the replica ends in
// the middle of it. Each is acknowledged as taken in the end, or comes again.
func TestNoNegativeAcknowledgement(t *testing.T) {
	t.Parallel()
	for _, mode := range append(deskModes(), "no store") {
		for _, level := range []byte{1, 2} {
			t.Run(fmt.Sprintf("%s/qos%d", mode, level), func(t *testing.T) {
				t.Parallel()
				ctx := within(t, 60*time.Second)
				var acks ackCodes
				b := startBroker(t, brokertest.Options{Intercept: acks.see})
				var back sync.Map // given back once
				stopped := make(chan struct{})
				stop := sync.OnceFunc(func() { close(stopped) })
				d := newDesk(t, mode, func(ctx context.Context, m *autopaho.Received) error {
					switch m.Topic {
					case "w/error":
						return errors.New("cannot")
					case "w/permanent":
						return autopaho.Permanent(errors.New("never"))
					case "w/panic":
						panic("boom")
					case "w/timeout":
						<-ctx.Done()
						return ctx.Err()
					case "w/release":
						if _, again := back.LoadOrStore(m.ID, true); !again {
							return autopaho.ErrRelease
						}
					case "w/stopped":
						if _, again := back.LoadOrStore(m.ID, true); !again {
							stop()
							<-ctx.Done()
							return ctx.Err()
						}
					}
					return nil
				})
				start := func() *autopaho.Client {
					cfg := autopaho.Config{
						Servers: []string{b.URL()}, ClientID: "replica", Relay: autopaho.RelayConfig{Off: true},
					}
					if mode != "no store" {
						store, faults := persisttest.NewFaulty(d.store)
						for _, op := range []persisttest.Op{persisttest.OpClaim, persisttest.OpComplete, persisttest.OpProcessTx} {
							faults.Add(persisttest.Fault{Op: op, N: 2, Mode: persisttest.Failed})
							faults.Add(persisttest.Fault{Op: op, N: 4, Mode: persisttest.Applied})
						}
						cfg.Store = store
					}
					c, err := autopaho.New(ctx, cfg)
					require.NoError(t, err)
					_, err = c.Subscribe(ctx, d.subscription(autopaho.SubscribeConfig{
						Filters: []string{"w/#"}, QoS: level, Group: "g", Attempts: 2,
						HandlerTimeout: 200 * time.Millisecond,
						Lease:          time.Second, // of a replica that leaves its messages behind
						Backoff:        qos.Backoff{Initial: time.Millisecond, Max: time.Millisecond},
					}))
					require.NoError(t, err)
					return c
				}
				published := 0
				publish := func(topics ...string) {
					for _, topic := range topics {
						published++
						id := fmt.Sprintf("%s-%d", topic, published)
						if topic == "w/old" {
							id = idFrom(t, 1000*time.Hour)
						}
						p := brokertest.Packet{Topic: topic, QoS: level}
						if topic != "w/unkeyed" {
							p.Properties = brokertest.Properties{brokertest.UserProperty("message-id", id)}
						}
						b.Publish(p)
					}
				}

				c := start()
				fates := []string{
					"w/good", "w/error", "w/good", "w/permanent", "w/panic", "w/timeout", "w/good", "w/old", "w/unkeyed",
					"w/release", "w/good",
				}
				publish(fates...)
				settled := func(n int) {
					eventually(t, func() bool { return c.Unsettled() == 0 && acks.count() >= n }, 30*time.Second, 5*time.Millisecond,
						"%d of %d messages acknowledged", acks.count(), n)
				}
				settled(len(fates))
				acks.requireNone(t, b)

				before := acks.count()
				publish("w/stopped")
				<-stopped
				hasty, cancel := context.WithCancel(ctx)
				cancel()
				_ = c.Close(hasty) // it leaves the handler no time
				require.Equal(t, before, acks.count())
				c = start()
				publish("w/good")
				settled(before + 2)
				require.NoError(t, c.Close(ctx))
				acks.requireNone(t, b)

				if mode == "no store" {
					return // nowhere to put dead letters, and nothing remembers
				}
				effects := d.effects(t)
				delete(effects, "") // without a key it may be processed again
				require.Len(t, effects, 4+1+1+1, "good, given back, stopped, and good once more")
				for id, n := range effects {
					require.Equal(t, 1, n, "effects of %q", id)
				}
				letters, err := d.store.ListDeadLetters(ctx, persist.DeadLetterFilter{Side: persist.SideConsumer}, 100)
				require.NoError(t, err)
				var dead []string
				for _, l := range letters {
					dead = append(dead, l.Message.Topic)
				}
				require.ElementsMatch(t, []string{"w/error", "w/permanent", "w/panic", "w/timeout", "w/old"}, dead)
			})
		}
	}
}
