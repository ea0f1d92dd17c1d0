package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// responder answers requests on a topic with what answer returns.
func responder(t *testing.T, url, topic string, answer func(m *autopaho.Received) []autopaho.Message) {
	t.Helper()
	c := client(t, autopaho.Config{Servers: []string{url}, ReceiveMaximum: 10})
	_, err := c.Subscribe(within(t, 20*time.Second), autopaho.SubscribeConfig{
		Filters: []string{topic},
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			for _, a := range answer(m) {
				if a.Topic == "" {
					a.Topic = m.Properties.ResponseTopic
				}
				if _, err := c.Publish(ctx, a); err != nil {
					return err
				}
			}
			return nil
		},
	})
	require.NoError(t, err)
}

// echo answers with the payload.
func echo(m *autopaho.Received) []autopaho.Message {
	a := autopaho.Message{QoS: 1, Payload: []byte("re: " + string(m.Payload))}
	a.Properties.CorrelationData = m.Properties.CorrelationData
	return []autopaho.Message{a}
}

// TestRequest: each of many requests at once gets its own response, by one
// subscription.
func TestRequest(t *testing.T) {
	t.Parallel()
	var subscribes atomic.Int32
	b := startBroker(t, brokertest.Options{Intercept: func(id string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.In && p.Type == brokertest.SUBSCRIBE && strings.HasSuffix(id, "-rr") {
			subscribes.Add(1)
		}
		return brokertest.Pass
	}})
	responder(t, b.URL(), "work", echo)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	ctx := within(t, 60*time.Second)
	var wg sync.WaitGroup
	errs := make(chan error, 200)
	for i := range cap(errs) {
		wg.Go(func() {
			payload := fmt.Sprintf("request %d", i)
			got, err := c.Request(ctx, autopaho.Message{Topic: "work", QoS: 1, Payload: []byte(payload)})
			if err == nil && string(got.Payload) != "re: "+payload {
				err = fmt.Errorf("%s got %q", payload, got.Payload)
			}
			errs <- err
		})
	}
	wg.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.EqualValues(t, 1, subscribes.Load())
	require.Empty(t, b.Violations())
}

// TestRequestCorrelation: messages on the response topic that are no response to this
// request are passed over, and what the caller gives is used.
func TestRequestCorrelation(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	own := "" // the client's topic, as the first request has it; handlers of one topic run one after another
	responder(t, m.URL(), "work", func(m *autopaho.Received) []autopaho.Message {
		none, other := autopaho.Message{Payload: []byte("none")}, autopaho.Message{Payload: []byte("other")}
		other.Properties.CorrelationData = []byte("other")
		before := []autopaho.Message{none, other}
		if own == "" {
			own = m.Properties.ResponseTopic
		} else {
			elsewhere := echo(m)[0]
			elsewhere.Topic, elsewhere.Payload = own, []byte("elsewhere")
			before = append(before, elsewhere)
		}
		return append(before, append(echo(m), echo(m)...)...)
	})
	c := client(t, autopaho.Config{Servers: []string{m.URL()}})
	ctx := within(t, 20*time.Second)
	req := autopaho.Message{Topic: "work", Payload: []byte("x")}
	got, err := c.Request(ctx, req)
	require.NoError(t, err)
	require.Equal(t, "re: x", string(got.Payload))

	req.Properties.ResponseTopic = "answers/1"
	req.Properties.CorrelationData = []byte("mine")
	var all []string
	require.NoError(t, c.RequestEach(ctx, req, func(m *autopaho.Received) bool {
		all = append(all, m.Topic+" "+string(m.Properties.CorrelationData)+" "+string(m.Payload))
		if len(all) == 1 {
			_, err := c.Request(ctx, req)
			require.ErrorIs(t, err, autopaho.ErrInvalidMessage)
			require.ErrorContains(t, err, "correlation data: are those of another request under way")
		}
		return len(all) < 2
	}))
	require.Equal(t, []string{"answers/1 mine re: x", "answers/1 mine re: x"}, all)

	req.Properties.ResponseTopic = "answers/+"
	_, err = c.Request(ctx, req)
	require.ErrorIs(t, err, autopaho.ErrInvalidMessage)
}

// TestRequestTopics: nothing is left of requests that had a Response Topic of their own
// each, in the client, at the broker or in metrics; nor of those that no connection was
// there for.
func TestRequestTopics(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	responder(t, b.URL(), "work", echo)
	m := newMeters(t)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, MeterProvider: m.provider})
	ctx := within(t, 60*time.Second)
	request := func(ctx context.Context, i int) error {
		req := autopaho.Message{Topic: "work", QoS: 1}
		req.Properties.ResponseTopic = fmt.Sprintf("answers/%d", i)
		_, err := c.Request(ctx, req)
		return err
	}
	for i := range 5 {
		require.NoError(t, request(ctx, i))
	}
	eventually(t, func() bool { return c.RequestsKept() == [4]int{} }, 30*time.Second, time.Millisecond, "nothing is kept")
	for i := range 5 {
		topic := fmt.Sprintf("answers/%d", i)
		eventually(t, func() bool { return b.Subscribers(topic) == 0 }, 30*time.Second, time.Millisecond, "no subscription to %s", topic)
	}
	var series []string
	for name := range m.collect(t) {
		if strings.HasPrefix(name, "messaging.process.duration{") || strings.Contains(name, "answers/") {
			series = append(series, name)
		}
	}
	require.Len(t, series, 1, "%s", series)
	require.Contains(t, series[0], "messaging.destination.subscription.name=(temporary),")

	b.Stop()
	eventually(t, func() bool {
		return !slices.ContainsFunc(c.Status(ctx).Connections, func(s autopaho.ConnStatus) bool { return s.State == autopaho.StateConnected })
	}, 30*time.Second, time.Millisecond, "it is known that there is no connection")
	for i := range 5 {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		require.ErrorIs(t, request(short, i), autopaho.ErrNoResponse)
		cancel()
	}
	require.Equal(t, [4]int{}, c.RequestsKept())
}

// TestRequestEnoughResponses: one that has had enough of the responses on a topic of
// its own returns, whatever still comes.
func TestRequestEnoughResponses(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	responder(t, b.URL(), "work", func(m *autopaho.Received) []autopaho.Message {
		all := make([]autopaho.Message, 100)
		for i := range all {
			all[i] = echo(m)[0]
		}
		return all
	})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	ctx := within(t, 60*time.Second)
	req := autopaho.Message{Topic: "work", QoS: 1}
	req.Properties.ResponseTopic = "answers"
	returned := make(chan error, 1)
	go func() {
		returned <- c.RequestEach(ctx, req, func(*autopaho.Received) bool {
			eventually(t, func() bool { return c.Counters().Received > 50 }, 30*time.Second, time.Millisecond, "more than are kept ready")
			return false
		})
	}()
	select {
	case err := <-returned:
		require.NoError(t, err)
	case <-ctx.Done():
		t.Fatal("it waits for a handler that waits for it")
	}
	require.Equal(t, 0, c.RequestsKept()[0])
}

// TestRequestEnds: a request ends with its context, with the client, and with an
// answer of the broker that refuses it.
func TestRequestEnds(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{
		{On: brokertest.SUBSCRIBE, Topic: "forbidden", Code: 0x87},
		{On: brokertest.PUBLISH, Topic: "forbidden/work", Code: 0x87},
	}})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	ctx := within(t, 20*time.Second)

	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err := c.Request(short, autopaho.Message{Topic: "nobody", QoS: 1})
	require.ErrorIs(t, err, autopaho.ErrNoResponse)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	refused := autopaho.Message{Topic: "work", QoS: 1}
	refused.Properties.ResponseTopic = "forbidden"
	_, err = c.Request(ctx, refused)
	var subscribe *autopaho.SubscribeError
	require.ErrorAs(t, err, &subscribe)
	_, err = c.Request(ctx, autopaho.Message{Topic: "forbidden/work", QoS: 1})
	require.ErrorIs(t, err, autopaho.ErrNotDelivered)

	ended := make(chan error, 1)
	sent := make(chan struct{})
	responder(t, b.URL(), "silent", func(*autopaho.Received) []autopaho.Message {
		close(sent)
		return nil
	})
	go func() {
		_, err := c.Request(ctx, autopaho.Message{Topic: "silent", QoS: 1})
		ended <- err
	}()
	<-sent
	require.NoError(t, c.Close(ctx))
	require.ErrorIs(t, <-ended, autopaho.ErrClosed)
	_, err = c.Request(ctx, autopaho.Message{Topic: "silent"})
	require.ErrorIs(t, err, autopaho.ErrClosed)
}

// TestRequestNoSubscribers: that nobody could answer is said.
func TestRequestNoSubscribers(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	c := client(t, autopaho.Config{Servers: []string{m.URL()}})
	ctx, cancel := context.WithCancel(within(t, 20*time.Second))
	defer cancel()
	_, err := c.Publish(ctx, autopaho.Message{Topic: "nobody", QoS: 1}) // so that what follows is quick
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = c.Request(short, autopaho.Message{Topic: "nobody", QoS: 1})
	require.ErrorContains(t, err, "no response, and the broker had no subscriber for it")
}

// TestRequestOverDrops: a response that was sent while the connection was away comes
// on the next one.
func TestRequestOverDrops(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Seed: 5, DropEvery: brokertest.Range{Min: 5, Max: 20}, DropLimit: 30})
	responder(t, b.URL(), "work", echo)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	ctx := within(t, 60*time.Second)
	for i := range 40 {
		payload := fmt.Sprint(i)
		got, err := c.Request(ctx, autopaho.Message{Topic: "work", QoS: 1, Payload: []byte(payload)})
		if errors.Is(err, autopaho.ErrConnectionLost) {
			continue // of Publish, which promises no more
		}
		require.NoError(t, err)
		require.Equal(t, "re: "+payload, string(got.Payload))
	}
	require.Greater(t, b.Stats().Drops, 3)
}

// TestRequestInHandler: a handler makes a request while its message is all that the
// broker may send this client.
func TestRequestInHandler(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	responder(t, b.URL(), "work", echo)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ReceiveMaximum: 1})
	ctx := within(t, 20*time.Second)
	got := make(chan string, 1)
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"in"},
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			r, err := c.Request(ctx, autopaho.Message{Topic: "work", QoS: 1, Payload: m.Payload})
			if err == nil {
				got <- string(r.Payload)
			}
			return err
		},
	})
	require.NoError(t, err)
	b.Publish(brokertest.Packet{Topic: "in", Payload: []byte("x"), QoS: 1})
	select {
	case s := <-got:
		require.Equal(t, "re: x", s)
	case <-ctx.Done():
		t.Fatal("no response came")
	}
}

// TestUnsubscribe: a subscription that an earlier process made in this session is
// removed.
func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	ctx := within(t, 20*time.Second)
	cfg := autopaho.Config{Servers: []string{m.URL()}, ClientID: "s"}
	first, err := autopaho.New(ctx, cfg)
	require.NoError(t, err)
	eff := newEffects()
	for _, f := range []string{"old", "kept"} {
		_, err = first.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{f}, Handler: eff.handle})
		require.NoError(t, err)
	}
	require.NoError(t, first.Close(ctx))
	second, err := autopaho.New(ctx, cfg)
	require.NoError(t, err)
	require.ErrorIs(t, second.Unsubscribe(ctx, "a/#/b"), autopaho.ErrConfig)
	require.NoError(t, second.Unsubscribe(ctx, "old", "never/there"))
	require.NoError(t, second.Close(ctx))
	require.ErrorIs(t, second.Unsubscribe(ctx, "old"), autopaho.ErrClosed)

	pub := client(t, autopaho.Config{Servers: []string{m.URL()}})
	for _, topic := range []string{"old", "kept"} {
		_, err = pub.Publish(ctx, autopaho.Message{Topic: topic, QoS: 1, Payload: []byte(topic), ID: topic})
		require.NoError(t, err)
	}
	third := client(t, cfg)
	_, err = third.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"old", "kept"}, Handler: eff.handle})
	require.NoError(t, err)
	eff.waitFor(t, ctx, 1)
	eff.mu.Lock()
	defer eff.mu.Unlock()
	require.Equal(t, []string{"kept"}, eff.order)
}

// TestDial: connections are made by the function of the configuration, and TLS
// verifies the name of the URL, wherever that leads.
func TestDial(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	var asked atomic.Value
	c := client(t, autopaho.Config{
		Servers: []string{"mqtt://broker.example:1234"},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			asked.Store(network + " " + address)
			return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", m.Host(), m.Port()))
		},
	})
	_, err := c.Publish(within(t, 20*time.Second), autopaho.Message{Topic: "a", QoS: 1})
	require.NoError(t, err)
	require.Equal(t, "tcp broker.example:1234", asked.Load())
}
