package autopaho_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

// log notes lines from several goroutines.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *log) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

func (l *log) len() int { return len(l.all()) }

// tracing is middleware that notes when it is entered.
func (l *log) tracing(name string) autopaho.Middleware {
	return func(next autopaho.Handler) autopaho.Handler {
		return func(ctx context.Context, m *autopaho.Received) error {
			l.add(name + " " + m.Topic + " " + m.Group)
			return next(ctx, m)
		}
	}
}

func publish(t *testing.T, c *autopaho.Client, topics ...string) {
	t.Helper()
	for i, topic := range topics {
		_, err := c.Publish(within(t, 10*time.Second), autopaho.Message{ID: topic + strconv.Itoa(i), Topic: topic, QoS: 1})
		require.NoError(t, err)
	}
}

// Each message goes to the handler of its route, and to all of them if several
// match; each route has attempts and middleware of its own, and all share one
// session.
func TestRouter(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}})
	ctx := within(t, 30*time.Second)
	var got, around log
	note := func(route string) autopaho.Handler {
		return func(_ context.Context, m *autopaho.Received) error {
			got.add(route + " " + m.Topic + " " + m.Group)
			return nil
		}
	}
	var alerts atomic.Int64
	r := autopaho.NewRouter(autopaho.SubscribeConfig{Group: "plant", Attempts: 1, MaxBatch: 10})
	r.Use(around.tracing("outer"), around.tracing("inner"))
	r.Handle("sensors/+", note("sensor"), autopaho.WithWorkers(4))
	r.Handle("alerts/+", func(ctx context.Context, m *autopaho.Received) error {
		if alerts.Add(1) == 1 {
			panic("the first time")
		}
		return note("alert")(ctx, m)
	}, autopaho.WithPolicy(qos.Policy{Attempts: 3, Backoff: qos.Backoff{Max: time.Millisecond}}),
		autopaho.WithMiddleware(around.tracing("alert's own")))
	r.HandleBatch("actuators/+/+", func(ctx context.Context, msgs []*autopaho.Received) error {
		for _, m := range msgs {
			_ = note("command")(ctx, m)
		}
		return nil
	})
	r.Handle("#", note("audit"), autopaho.WithGroup("audit"), func(c *autopaho.RouteConfig) { c.Name = "audit" })
	routes, err := r.Start(ctx, c)
	require.NoError(t, err)

	publish(t, c, "sensors/1", "alerts/2", "actuators/valves/3", "elsewhere")
	require.Eventually(t, func() bool { return got.len() >= 7 }, 20*time.Second, 5*time.Millisecond)
	require.ElementsMatch(t, []string{
		"sensor sensors/1 plant", "alert alerts/2 plant", "command actuators/valves/3 plant",
		"audit sensors/1 audit", "audit alerts/2 audit", "audit actuators/valves/3 audit", "audit elsewhere audit",
	}, got.all())
	var chain []string
	for _, line := range around.all() {
		if name, ok := strings.CutSuffix(line, " alerts/2 plant"); ok {
			chain = append(chain, name)
		}
	}
	require.Equal(t, []string{"outer", "inner", "alert's own", "outer", "inner", "alert's own"}, chain, "around both attempts")
	require.Eventually(t, func() bool { return c.Unsettled() == 0 }, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, []autopaho.RouteStats{
		{Name: "sensors/+", Filters: []string{"sensors/+"}, Handled: 1},
		{Name: "alerts/+", Filters: []string{"alerts/+"}, Handled: 1, Failed: 1},
		{Name: "actuators/+/+", Filters: []string{"actuators/+/+"}, Handled: 1},
		{Name: "audit", Filters: []string{"#"}, Handled: 4},
	}, routes.Stats())
	require.NotNil(t, routes.Subscription("audit"))
	require.Nil(t, routes.Subscription("nobody"))
	require.Equal(t, 2, b.Sessions(), "the subscriptions', and Publish's")

	require.NoError(t, routes.Close(ctx))
	require.Eventually(t, func() bool {
		return b.Subscribers("$share/plant/sensors/+") == 0 && b.Subscribers("$share/audit/#") == 0
	}, 20*time.Second, 5*time.Millisecond)
}

// What the broker has kept of an earlier process's subscription goes to NotFound;
// what that does not take becomes a dead letter, and both are acknowledged.
func TestRouterNotFound(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	before, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, ClientID: "router"})
	require.NoError(t, err)
	_, err = before.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"old/#"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
	})
	require.NoError(t, err)
	require.NoError(t, before.Close(ctx))
	store := memoryStore(t)
	publish(t, client(t, autopaho.Config{Servers: []string{b.URL()}}), "old/1", "old/bad", "old/2")

	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "router", Store: store, Relay: autopaho.RelayConfig{Off: true}})
	var got, around log
	r := autopaho.NewRouter(autopaho.SubscribeConfig{})
	r.Handle("new/#", func(context.Context, *autopaho.Received) error { return nil })
	r.NotFound(func(_ context.Context, m *autopaho.Received) error {
		got.add(m.Topic)
		if m.Topic == "old/bad" {
			panic("not this one")
		}
		return nil
	})
	r.Use(around.tracing("around"))
	_, err = r.Start(ctx, c)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return got.len() == 3 && c.Status(ctx).Connections[0].Unacked == 0
	}, 5*time.Second, 5*time.Millisecond, "acknowledged, and not after ten seconds")
	require.Equal(t, 3, around.len())
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, "old/bad", letters[0].Message.Topic)
	require.Contains(t, letters[0].Reason, "its handler failed: handler panicked: not this one")
	require.Equal(t, uint64(1), c.Counters().Unrouted)
}

// What NotFound gives back comes again, with all that came after it, and nothing of it
// was handled in vain.
func TestRouterNotFoundGivesBack(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	cfg := autopaho.Config{Servers: []string{b.URL()}, ClientID: "router"}
	before, err := autopaho.New(ctx, cfg)
	require.NoError(t, err)
	_, err = before.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"old/#"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
	})
	require.NoError(t, err)
	require.NoError(t, before.Close(ctx))
	publish(t, client(t, autopaho.Config{Servers: []string{b.URL()}}), "old/1", "old/2", "old/3")

	c := client(t, cfg)
	var got log
	r := autopaho.NewRouter(autopaho.SubscribeConfig{})
	r.Handle("new/#", func(context.Context, *autopaho.Received) error { return nil })
	r.NotFound(func(_ context.Context, m *autopaho.Received) error {
		got.add(m.Topic)
		if got.len() == 1 {
			return autopaho.ErrRelease
		}
		return nil
	})
	_, err = r.Start(ctx, c)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return c.Counters().Processed == 3 && c.Status(ctx).Connections[0].Unacked == 0
	}, 30*time.Second, 5*time.Millisecond)
	require.Equal(t, 4, got.len(), "the first twice, the others once")
}

// What NotFound has failed with is its end: it does not get the message again while the
// dead letter cannot be written.
func TestRouterNotFoundRunsOnce(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	keepSubscription(t, b, "router", "old/#")
	publish(t, client(t, autopaho.Config{Servers: []string{b.URL()}}), "old/1", "old/2")
	store, faults := persisttest.NewFaulty(memoryStore(t))
	faults.Add(persisttest.Fault{Op: persisttest.OpAddDeadLetters, Times: 3})

	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "router", Store: store, Relay: autopaho.RelayConfig{Off: true}})
	c.SetUnroutedWait(10 * time.Millisecond)
	var got log
	r := autopaho.NewRouter(autopaho.SubscribeConfig{})
	r.Handle("new/#", func(context.Context, *autopaho.Received) error { return nil })
	r.NotFound(func(_ context.Context, m *autopaho.Received) error {
		got.add(m.Topic)
		return errors.New("not this one")
	})
	_, err := r.Start(ctx, c)
	require.NoError(t, err)
	eventually(t, func() bool { return c.Counters().Unrouted == 2 }, 30*time.Second, 5*time.Millisecond, "put aside")
	require.Equal(t, []string{"old/1", "old/2"}, got.all())
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 2)
	for _, l := range letters {
		require.Contains(t, l.Reason, "its handler failed: not this one")
	}
}

// keepSubscription has the broker keep a session with a subscription of an earlier
// process.
func keepSubscription(t *testing.T, b *brokertest.Broker, clientID, filter string) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, ClientID: clientID})
	require.NoError(t, err)
	_, err = c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{filter}, Handler: func(context.Context, *autopaho.Received) error { return nil },
	})
	require.NoError(t, err)
	require.NoError(t, c.Close(ctx))
}

// One router of a client has its NotFound at a time, and keeps it whatever others do.
func TestRouterNotFoundIsOne(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	keepSubscription(t, b, "router", "old/#")
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "router"})
	var got log
	router := func(filter string, notFound bool) *autopaho.Router {
		r := autopaho.NewRouter(autopaho.SubscribeConfig{})
		r.Handle(filter, func(context.Context, *autopaho.Received) error { return nil })
		if notFound {
			r.NotFound(func(_ context.Context, m *autopaho.Received) error {
				got.add(filter + " " + m.Topic)
				return nil
			})
		}
		return r
	}
	first, err := router("a", true).Start(ctx, c)
	require.NoError(t, err)
	_, err = router("b", true).Start(ctx, c)
	require.ErrorIs(t, err, autopaho.ErrConfig)
	require.ErrorContains(t, err, "another router of this client has a NotFound")
	require.Zero(t, b.Subscribers("b"))
	second, err := router("c", false).Start(ctx, c)
	require.NoError(t, err)
	require.NoError(t, second.Close(ctx))
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
	publish(t, pub, "old/1")
	eventually(t, func() bool { return got.len() == 1 }, 30*time.Second, 5*time.Millisecond, "the first has it")

	require.NoError(t, first.Close(ctx))
	_, err = router("d", true).Start(ctx, c)
	require.NoError(t, err)
	require.NoError(t, first.Close(ctx), "again, which takes nothing from others")
	publish(t, pub, "old/2")
	eventually(t, func() bool { return got.len() == 2 }, 30*time.Second, 5*time.Millisecond, "the next has it")
	require.Equal(t, []string{"a old/1", "d old/2"}, got.all())
}

// A route that the broker refuses ends all of them, and is named.
func TestRouterRefused(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "secret/#", On: brokertest.SUBSCRIBE, Code: 0x87}}})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	ctx := within(t, 30*time.Second)
	r := autopaho.NewRouter(autopaho.SubscribeConfig{})
	nothing := func(context.Context, *autopaho.Received) error { return nil }
	r.Handle("public/#", nothing)
	r.Handle("secret/#", nothing)
	_, err := r.Start(ctx, c)
	var refused *autopaho.SubscribeError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "route secret/#: ")
	require.Eventually(t, func() bool { return b.Subscribers("public/#") == 0 }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, c.Close(ctx))
	_, err = r.Start(ctx, c)
	require.ErrorIs(t, err, autopaho.ErrClosed)
}

// Every fault of every route is told at once.
func TestRouterFaults(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	nothing := func(context.Context, *autopaho.Received) error { return nil }
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}})

	_, err := autopaho.NewRouter(autopaho.SubscribeConfig{}).Start(ctx, c)
	require.ErrorIs(t, err, autopaho.ErrConfig)
	require.ErrorContains(t, err, "has no routes")

	r := autopaho.NewRouter(autopaho.SubscribeConfig{Group: "g"})
	r.Handle("a/#/b", nothing)
	r.Handle("a/+", nil)
	r.Handle("b", nothing)
	r.Handle("b", nothing)
	r.Handle("c/+", nothing)
	r.Handle("+/d", nothing)
	r.Handle("+/e", nothing, autopaho.WithGroup("other"))
	r.HandleTx("f", nil)
	_, err = r.Start(ctx, c)
	require.ErrorIs(t, err, autopaho.ErrConfig)
	for _, want := range []string{
		"route a/#/b: ", "route a/+: ", "there are two routes b", "the routes c/+ and +/d overlap and share the group g", "route f: ",
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "+/e")

	// Without a store there is no dedup that could mistake them.
	r = autopaho.NewRouter(autopaho.SubscribeConfig{Group: "g"})
	r.Handle("c/+", nothing)
	r.Handle("+/d", nothing)
	routes, err := r.Start(ctx, client(t, autopaho.Config{Servers: []string{b.URL()}}))
	require.NoError(t, err)
	require.Len(t, routes.Stats(), 2)
}

func TestEventFuncs(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	var kinds log
	c, err := autopaho.New(within(t, 5*time.Second), autopaho.Config{Servers: []string{b.URL()}, OnEvent: autopaho.EventFuncs{
		autopaho.EventConnected: func(e autopaho.Event) { kinds.add(string(e.Kind)) },
		autopaho.EventError:     nil,
	}.Event})
	require.NoError(t, err)
	ctx := within(t, 10*time.Second)
	_, err = c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Handler: func(context.Context, *autopaho.Received) error { return errors.New("no") },
	})
	require.NoError(t, err)
	require.NoError(t, c.Close(ctx))
	require.Equal(t, []string{"connected"}, kinds.all())
}
