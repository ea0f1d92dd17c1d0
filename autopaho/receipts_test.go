package autopaho_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// responseTopic is that of the first message that has come.
func responseTopic(t *testing.T, b *brokertest.Broker) string {
	t.Helper()
	topic, ok := b.Arrivals()[0].Packet.Properties.Str(brokertest.PropResponseTopic)
	require.True(t, ok)
	return topic
}

// Somebody who may publish to the receipt topic acknowledges what nobody has
// processed. With a key that is ignored, whatever is wrong with the receipt, and
// counted; the consumer's own receipt counts, signed with the old key or the new.
func TestForgedReceipts(t *testing.T) {
	t.Parallel()
	first, second := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	store := memoryStore(t)
	pub := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, ReceiptKeys: [][]byte{first, second},
		Policies: qos.Policies{Default: qos.Policy{Receipt: true, ReceiptTimeout: 100 * time.Millisecond}},
	})
	q, err := pub.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	topic := responseTopic(t, b)

	intruder := client(t, autopaho.Config{Servers: []string{b.URL()}})
	forge := func(id, status, reason, mac string) {
		t.Helper()
		m := autopaho.Message{Topic: topic, QoS: 1}
		m.Properties.CorrelationData = []byte(id)
		for name, value := range map[string]string{"receipt": status, "reason": reason, "receipt-mac": mac} {
			if value != "" {
				m.Properties.User = append(m.Properties.User, autopaho.UserProperty{Name: name, Value: value})
			}
		}
		_, err := intruder.Publish(ctx, m)
		require.NoError(t, err)
	}
	genuine := autopaho.ReceiptMAC(first, q.ID(), "processed", "")
	forged := uint64(0)
	for name, f := range map[string]func(){
		"without a signature":    func() { forge(q.ID(), "processed", "", "") },
		"signed with a guess":    func() { forge(q.ID(), "processed", "", autopaho.ReceiptMAC([]byte("guess"), q.ID(), "processed", "")) },
		"of another message":     func() { forge("another", "processed", "", genuine) },
		"with another status":    func() { forge(q.ID(), "dead", "", genuine) },
		"with a reason":          func() { forge(q.ID(), "processed", "because", genuine) },
		"with the parts shifted": func() { forge(q.ID()+"p", "rocessed", "", genuine) },
		"cut":                    func() { forge(q.ID(), "processed", "", genuine[:10]) },
	} {
		f()
		forged++
		require.Eventually(t, func() bool { return pub.Counters().ForgedReceipts == forged }, 10*time.Second, time.Millisecond, name)
	}
	require.Zero(t, pub.Counters().Acknowledged+pub.Counters().UnknownReceipts)
	require.Equal(t, persist.StateDelivered, q.Results()[0].State)

	for i, keys := range [][][]byte{{second}, {first, second}} { // those of consumers
		eff := newEffects()
		sub := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "sub", ReceiptKeys: keys})
		s, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Receipts: true, Handler: eff.handle})
		require.NoError(t, err)
		results, err := q.WaitAcknowledged(ctx)
		require.NoError(t, err)
		require.Equal(t, persist.StateAcknowledged, results[0].State)
		require.EqualValues(t, i+1, pub.Counters().Acknowledged)
		require.NoError(t, s.Close(ctx))
		q, err = pub.Enqueue(ctx, autopaho.Message{Topic: "a"})
		require.NoError(t, err)
	}
	require.Equal(t, forged, pub.Counters().ForgedReceipts)
}

// A receipt for a message that is not here is counted and does no harm.
func TestUnknownReceipt(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 20*time.Second)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
	q, err := pub.Enqueue(ctx, autopaho.Message{Topic: "a", Receipt: true})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	m := autopaho.Message{Topic: responseTopic(t, b), QoS: 1}
	m.Properties.CorrelationData = []byte("unheard of")
	m.Properties.User = []autopaho.UserProperty{{Name: "receipt", Value: "processed"}}
	_, err = client(t, autopaho.Config{Servers: []string{b.URL()}}).Publish(ctx, m)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return pub.Counters().UnknownReceipts == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, persist.StateDelivered, q.Results()[0].State)
}

// A Response Topic comes from outside. One with wildcards would cost the consumer
// its connection, one elsewhere would make it publish where it should not: the
// message is processed, and nobody is answered.
func TestReceiptTopicFromOutside(t *testing.T) {
	t.Parallel()
	for _, bad := range []func(*autopaho.Config){
		func(c *autopaho.Config) { c.Relay.ReceiptTopic = "receipts/#" },
		func(c *autopaho.Config) { c.Relay.ReceiptTopic = "receipts/+" },
		func(c *autopaho.Config) { c.ReceiptKeys = [][]byte{make([]byte, 16), make([]byte, 15)} },
	} {
		cfg := autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}}
		bad(&cfg)
		require.ErrorIs(t, cfg.Validate(), autopaho.ErrConfig)
	}

	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 20*time.Second)
	eff := newEffects()
	sub := client(t, autopaho.Config{Servers: []string{b.URL()}})
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Receipts: true, Handler: eff.handle})
	require.NoError(t, err)
	for _, topic := range []string{"oncemq/receipts/#", "oncemq/receipts/+/0", "elsewhere", "oncemq/receipts/x/0"} {
		b.Publish(brokertest.Packet{
			Topic: "a", QoS: 1, Properties: []brokertest.Property{
				brokertest.Str(brokertest.PropResponseTopic, topic), brokertest.Str(brokertest.PropCorrelationData, "id"), brokertest.UserProperty("message-id", topic),
			},
		})
	}
	eff.waitFor(t, ctx, 4)
	require.Eventually(t, func() bool { return sub.Counters().ReceiptsSent == 1 }, 10*time.Second, time.Millisecond)
	require.Len(t, b.Arrivals(), 1)
	require.Equal(t, "oncemq/receipts/x/0", b.Arrivals()[0].Packet.Topic)
	require.Empty(t, b.Violations())
}

// The longer a receipt does not come, the longer is the wait before the message
// is sent again.
func TestReceiptTimeoutGrows(t *testing.T) {
	t.Parallel()
	for attempts, want := range []time.Duration{1, 2, 4, 8, 16, 16, 16} {
		require.Equal(t, want*time.Second, autopaho.ReceiptTimeout(time.Second, attempts))
	}
	require.Equal(t, 16*time.Second, autopaho.ReceiptTimeout(time.Second, 1<<40))
	require.Equal(t, time.Duration(1<<62), autopaho.ReceiptTimeout(1<<62, 10))

	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Poll: 5 * time.Millisecond},
		Policies: qos.Policies{Default: qos.Policy{Receipt: true, ReceiptTimeout: 50 * time.Millisecond, Attempts: 5}},
	})
	begun := time.Now()
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	results, err := q.WaitAcknowledged(ctx)
	require.NoError(t, err)
	require.Error(t, results[0].Err())
	require.Len(t, b.Arrivals(), 5)
	require.GreaterOrEqual(t, time.Since(begun), 31*50*time.Millisecond)
}

// The handler panics, which makes an error of many lines. In a receipt they would
// have made the broker end the connection, and the publisher would never have
// learned what became of its message.
func TestReceiptOfAPanic(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	ctx := within(t, 30*time.Second)
	sub := client(t, autopaho.Config{Servers: []string{m.URL()}, ClientID: "sub", Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}})
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", Receipts: true, Attempts: 1,
		Handler: func(context.Context, *autopaho.Received) error { panic("boom\xff\x00") },
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{m.URL()}, Store: memoryStore(t)})
	q, err := pub.Enqueue(ctx, autopaho.Message{Topic: "a", Receipt: true})
	require.NoError(t, err)
	results, err := q.WaitAcknowledged(ctx)
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err(), "boom")
	for _, s := range sub.Status(ctx).Connections {
		require.Equal(t, 1, s.Connects, "%s", s.ClientID)
	}
}

// mosquitto is killed after it has acknowledged messages that nobody has got yet,
// and with them forgets the sessions of all. Receipts have them sent again, and
// each has one effect.
func TestReceiptsSurviveKilledMosquitto(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{Persistence: true})
	ctx := within(t, 60*time.Second)
	store := memoryStore(t)
	eff := newEffects()
	gate := make(chan struct{})
	sub := client(t, autopaho.Config{
		Servers: []string{m.URL()}, ClientID: "sub", Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}, ReceiveMaximum: 10,
	})
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", Receipts: true, Workers: 1,
		Handler: func(ctx context.Context, r *autopaho.Received) error {
			select {
			case <-gate:
				return eff.handle(ctx, r)
			case <-ctx.Done():
				return errors.Join(autopaho.ErrRelease, ctx.Err())
			}
		},
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{
		Servers: []string{m.URL()}, Store: store,
		Policies: qos.Policies{Default: qos.Policy{Receipt: true, ReceiptTimeout: 500 * time.Millisecond}},
	})
	msgs := make([]autopaho.Message, 200)
	for i := range msgs {
		msgs[i] = autopaho.Message{Topic: "a"}
	}
	q, err := pub.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	_, err = q.Wait(ctx) // the broker has them all, and has told so
	require.NoError(t, err)
	m.Kill()
	m.Start()
	close(gate)
	results, err := q.WaitAcknowledged(ctx)
	require.NoError(t, err)
	for _, r := range results {
		require.NoError(t, r.Err())
		require.Equal(t, persist.StateAcknowledged, r.State)
	}
	eff.waitFor(t, ctx, len(msgs))
	eff.requireOnce(t)
	require.Positive(t, pub.Counters().Resent, "the broker has forgotten nothing")
	st, err := store.Stats(ctx)
	require.NoError(t, err)
	require.Zero(t, st.Pending+st.Delivered)
	// Before the broker goes: what was sent twice is answered twice.
	require.NoError(t, pub.Close(ctx))
	require.NoError(t, sub.Close(ctx))
}
