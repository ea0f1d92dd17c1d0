package autopaho_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

// idFrom is a message ID that was made some time ago.
func idFrom(t *testing.T, ago time.Duration) string {
	t.Helper()
	u, err := uuid.NewV7()
	require.NoError(t, err)
	ms := time.Now().Add(-ago).UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	return u.String()
}

// behind is a store whose clock is an hour behind: what is enqueued now has waited
// there for an hour.
func behind(t *testing.T) persist.Store {
	t.Helper()
	s := memory.New(memory.Options{Clock: func() time.Time { return time.Now().Add(-time.Hour) }})
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// stamps are the values of first-sent of all transmissions, in order; -1 is none.
func stamps(t *testing.T, b *brokertest.Broker) []int64 {
	t.Helper()
	var all []int64
	for _, a := range b.Arrivals() {
		n := int64(-1)
		if s := a.Packet.Properties.User(dedup.PropertyFirstSent); s != "" {
			var err error
			n, err = strconv.ParseInt(s, 10, 64)
			require.NoError(t, err)
		}
		all = append(all, n)
	}
	return all
}

func requireNow(t *testing.T, ms int64) {
	t.Helper()
	require.WithinDuration(t, time.Now(), time.UnixMilli(ms), 10*time.Second)
}

// A message whose ID tells when it was sent goes out as it is; one whose ID does
// not says so. What a message that is passed on says of itself is not believed.
func TestFirstSentIsTold(t *testing.T) {
	t.Parallel()
	require.Equal(t, dedup.PropertyFirstSent, autopaho.PropertyFirstSent)
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 20*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: behind(t)})
	foreign := persist.Properties{User: []autopaho.UserProperty{
		{Name: autopaho.PropertyFirstSent, Value: "1"}, {Name: "k", Value: "v"},
	}}
	given := foreign.User
	q, err := c.Enqueue(ctx,
		autopaho.Message{Topic: "a"},
		autopaho.Message{Topic: "a", ID: idFrom(t, 30*time.Second)},
		autopaho.Message{Topic: "a", ID: idFrom(t, -time.Hour)},
		autopaho.Message{Topic: "a", Properties: foreign},
		autopaho.Message{Topic: "a", ID: idFrom(t, 2*time.Minute)},
		autopaho.Message{Topic: "a", ID: idFrom(t, time.Hour), Properties: foreign},
		autopaho.Message{Topic: "a", ID: uuid.NewString()},
		autopaho.Message{Topic: "a", ID: "order-1"},
		// It was made long before it was enqueued, and may have been sent then.
		autopaho.Message{Topic: "a", ID: idFrom(t, 48*time.Hour)},
	)
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	got := stamps(t, b)
	require.Equal(t, []int64{-1, -1, -1, -1}, got[:4])
	for _, ms := range got[4:8] {
		requireNow(t, ms)
	}
	require.EqualValues(t, -1, got[8])
	last := b.Arrivals()[5].Packet.Properties
	require.Equal(t, "v", last.User("k"))
	require.Equal(t, 1, countUser(last, autopaho.PropertyFirstSent))
	require.Equal(t, "1", given[0].Value, "the caller's message was changed")
	require.Empty(t, b.Violations())
}

func countUser(p brokertest.Properties, name string) int {
	n := 0
	for _, u := range p {
		if u.ID == brokertest.PropUserProperty && u.Key == name {
			n++
		}
	}
	return n
}

// The stamp is that of the first transmission: after a reconnection, after a
// refusal, and when a receipt did not come.
func TestFirstSentIsKept(t *testing.T) {
	t.Parallel()
	again := func(t *testing.T, o brokertest.Options, m autopaho.Message, between func(*brokertest.Broker)) {
		t.Helper()
		// Made here and not before: a subtest may wait for minutes for its turn, and
		// an ID that is older than its row by more than a minute is not stamped.
		m.ID = idFrom(t, time.Hour)
		b := startBroker(t, o)
		between = orNothing(between)
		if o.Answers == nil && !m.Receipt {
			b.HoldAcks()
		}
		ctx := within(t, 20*time.Second)
		c := client(t, autopaho.Config{
			Servers: []string{b.URL()}, Store: behind(t), AckTimeout: time.Second,
			Policies: qos.Policies{Default: qos.Policy{ReceiptTimeout: 50 * time.Millisecond}},
		})
		_, err := c.Enqueue(ctx, m)
		require.NoError(t, err)
		require.NoError(t, b.Wait(ctx, func() bool { return len(b.Arrivals()) > 0 }))
		between(b)
		require.NoError(t, b.Wait(ctx, func() bool { return len(b.Arrivals()) > 2 }))
		got := stamps(t, b)
		requireNow(t, got[0])
		for _, ms := range got {
			require.Equal(t, got[0], ms)
		}
	}
	old := autopaho.Message{Topic: "a", MaxAttempts: 100}
	t.Run("reconnection", func(t *testing.T) {
		t.Parallel()
		again(t, brokertest.Options{}, old, func(b *brokertest.Broker) {
			b.ResetAll()
			_ = b.Wait(within(t, 10*time.Second), func() bool { return len(b.Arrivals()) > 1 })
			b.Forget()
		})
	})
	t.Run("refusal", func(t *testing.T) {
		t.Parallel()
		again(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "a", Code: 0x97, Times: 3}}}, old, nil)
	})
	t.Run("receipt", func(t *testing.T) {
		t.Parallel()
		m := old
		m.Receipt = true
		again(t, brokertest.Options{}, m, nil)
	})
}

func orNothing(f func(*brokertest.Broker)) func(*brokertest.Broker) {
	if f == nil {
		return func(*brokertest.Broker) {}
	}
	return f
}

// A holder that may have sent leaves no message of its time to be stamped; one
// that had no broker leaves all.
func TestFirstSentAfterAnotherHolder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hold    func(t *testing.T, store persist.Store, m autopaho.Message)
		stamped bool
	}{
		"it died sending": {func(t *testing.T, store persist.Store, m autopaho.Message) {
			t.Helper()
			lane, err := store.AcquireLane(t.Context(), 0, "dead", 200*time.Millisecond)
			require.NoError(t, err)
			require.NoError(t, lane.Renew(t.Context(), 200*time.Millisecond, true))
			_, err = store.Enqueue(t.Context(), []persist.Message{m})
			require.NoError(t, err)
		}, false},
		"it died before it could send": {func(t *testing.T, store persist.Store, m autopaho.Message) {
			t.Helper()
			lane, err := store.AcquireLane(t.Context(), 0, "dead", 200*time.Millisecond)
			require.NoError(t, err)
			require.NoError(t, lane.Renew(t.Context(), 200*time.Millisecond, false))
			_, err = store.Enqueue(t.Context(), []persist.Message{m})
			require.NoError(t, err)
		}, true},
		"it closed with the message in flight": {func(t *testing.T, store persist.Store, m autopaho.Message) {
			t.Helper()
			b := startBroker(t, brokertest.Options{})
			b.HoldAcks()
			ctx := within(t, 10*time.Second)
			c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, Store: store, AckTimeout: 50 * time.Millisecond})
			require.NoError(t, err)
			_, err = c.Enqueue(ctx, m)
			require.NoError(t, err)
			require.NoError(t, b.WaitFirstArrivals(ctx, 1))
			require.NoError(t, c.Close(ctx))
			requireNow(t, stamps(t, b)[0])
		}, false},
		"it had no broker": {func(t *testing.T, store persist.Store, m autopaho.Message) {
			t.Helper()
			b := startBroker(t, brokertest.Options{})
			b.Stop()
			ctx := within(t, 10*time.Second)
			renewed := make(chan struct{}, 100)
			c, err := autopaho.New(ctx, autopaho.Config{
				Servers: []string{b.URL()}, Relay: autopaho.RelayConfig{Lease: time.Second},
				Store: &sendingStore{store, func(bool) { renewed <- struct{}{} }},
			})
			require.NoError(t, err)
			_, err = c.Enqueue(ctx, m)
			require.NoError(t, err)
			<-renewed
			require.NoError(t, c.Close(ctx))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := behind(t)
			test.hold(t, store, autopaho.Message{Topic: "a", QoS: 1, ID: idFrom(t, time.Hour)})
			b := startBroker(t, brokertest.Options{})
			client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
			require.NoError(t, b.WaitFirstArrivals(within(t, 10*time.Second), 1))
			if got := stamps(t, b)[0]; test.stamped {
				requireNow(t, got)
			} else {
				require.EqualValues(t, -1, got)
			}
		})
	}
}

// sendingStore notes what its lanes' holders say about whether they send.
type sendingStore struct {
	persist.Store
	said func(sending bool)
}

func (s *sendingStore) AcquireLane(ctx context.Context, n int, owner string, ttl time.Duration) (persist.Lane, error) {
	lane, err := s.Store.AcquireLane(ctx, n, owner, ttl)
	if err != nil {
		return nil, err
	}
	return &sendingLane{lane, s.said}, nil
}

type sendingLane struct {
	persist.Lane
	said func(sending bool)
}

func (l *sendingLane) Renew(ctx context.Context, ttl time.Duration, sending bool) error {
	err := l.Lane.Renew(ctx, ttl, sending)
	if err == nil {
		l.said(sending)
	}
	return err
}

// The store knows that a relay sends before it does, and that it does not once the
// broker has been away for a while.
func TestSendingIsRecorded(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	inner, faults := persisttest.NewFaulty(memoryStore(t), persisttest.Fault{Op: persisttest.OpLaneRenew, N: 1, Times: -1, Mode: persisttest.Failed})
	said := make(chan bool, 1000)
	store := &sendingStore{inner, func(sending bool) { said <- sending }}
	ctx := within(t, 30*time.Second)
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Lease: time.Second, Poll: 20 * time.Millisecond},
	})
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return faults.Calls(persisttest.OpLaneRenew) >= 3 }, 10*time.Second, time.Millisecond)
	require.NotEmpty(t, b.Connected())
	require.Empty(t, b.Arrivals(), "sent before the store knew")
	faults.Heal()
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	require.True(t, <-said)

	b.Stop()
	for <-said {
	}
	_, err = c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	require.NoError(t, b.WaitFirstArrivals(ctx, 2))
	var last bool
	for len(said) > 0 {
		last = <-said
	}
	require.True(t, last)
}
