package autopaho_test

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// spans is an exporter in memory with its provider.
type spans struct {
	exporter *tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
}

func newSpans(t *testing.T, o ...sdktrace.TracerProviderOption) *spans {
	t.Helper()
	e := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(append(o, sdktrace.WithSyncer(e))...)
	t.Cleanup(func() { require.NoError(t, p.Shutdown(context.Background())) })
	return &spans{e, p}
}

// await waits until there are n spans and returns them in the order of their starts.
func (s *spans) await(t *testing.T, n int) tracetest.SpanStubs {
	t.Helper()
	var all tracetest.SpanStubs
	eventually(t, func() bool {
		all = s.exporter.GetSpans()
		return len(all) >= n
	}, 30*time.Second, 5*time.Millisecond, "%d spans", n)
	require.Len(t, all, n)
	slices.SortStableFunc(all, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return all
}

func named(t *testing.T, all tracetest.SpanStubs, name string) tracetest.SpanStub {
	t.Helper()
	i := slices.IndexFunc(all, func(s tracetest.SpanStub) bool { return s.Name == name })
	require.GreaterOrEqual(t, i, 0, "no span %q among %v", name, all)
	return all[i]
}

func attributeOf(s *tracetest.SpanStub, key string) any {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.AsInterface()
		}
	}
	return nil
}

// requireChild checks that a span is a child of another, in one trace.
func requireChild(t *testing.T, child, parent *tracetest.SpanStub) {
	t.Helper()
	require.Equal(t, parent.SpanContext.TraceID(), child.SpanContext.TraceID(), "%s and %s", child.Name, parent.Name)
	require.Equal(t, parent.SpanContext.SpanID(), child.Parent.SpanID(), "the parent of %s is not %s", child.Name, parent.Name)
}

// requireTrace checks the four spans of one message.
func requireTrace(t *testing.T, enqueued, relayed, consumed *spans) {
	t.Helper()
	all := slices.Concat(enqueued.exporter.GetSpans(), relayed.exporter.GetSpans(), consumed.exporter.GetSpans())
	enqueue, publish := named(t, all, "enqueue"), named(t, all, "publish")
	receive, process := named(t, all, "receive a/+"), named(t, all, "process a/+")
	requireChild(t, &publish, &enqueue)
	requireChild(t, &receive, &enqueue)
	requireChild(t, &process, &receive)
	require.Equal(t, trace.SpanKindProducer, enqueue.SpanKind)
	require.Equal(t, trace.SpanKindClient, publish.SpanKind)
	require.Equal(t, trace.SpanKindConsumer, receive.SpanKind)
	require.False(t, publish.EndTime.Before(publish.StartTime))
	require.False(t, receive.EndTime.Before(process.EndTime), "acknowledged before it was processed")
	require.Equal(t, "processed", attributeOf(&receive, "oncemq.outcome"))
	for _, s := range []*tracetest.SpanStub{&enqueue, &publish, &receive, &process} {
		require.Equal(t, "mqtt", attributeOf(s, "messaging.system"), s.Name)
		require.Equal(t, "a/b", attributeOf(s, "messaging.destination.name"), s.Name)
		require.NotEmpty(t, attributeOf(s, "messaging.message.id"), s.Name)
	}
}

// TestTrace: a message leaves four spans in one trace, though each side knows its own
// only.
func TestTrace(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	there, here := newSpans(t), newSpans(t)
	sub := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}, TracerProvider: there.provider,
	})
	inner := make(chan trace.SpanContext, 1)
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"z", "a/+"}, Group: "g",
		Handler: func(ctx context.Context, _ *autopaho.Received) error {
			inner <- trace.SpanContextFromContext(ctx)
			return nil
		},
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), TracerProvider: here.provider})
	_, err = pub.Enqueue(ctx, autopaho.Message{Topic: "a/b", Properties: persist.Properties{
		User: []autopaho.UserProperty{{Name: "mine", Value: "stays"}},
	}})
	require.NoError(t, err)
	here.await(t, 2)
	got := there.await(t, 2)
	requireTrace(t, here, here, there)
	process := named(t, got, "process a/+")
	require.Equal(t, process.SpanContext.SpanID(), (<-inner).SpanID(), "the handler's context is not that of its span")
	sent := b.FirstArrivals("a/b")[0].Packet.Properties
	require.Equal(t, "stays", sent.User("mine"))
	require.Contains(t, sent.User("traceparent"), "00-"+process.SpanContext.TraceID().String())
}

// TestTraceAcrossRestart: who enqueued is gone when another process relays, and the
// context is in the store.
func TestTraceAcrossRestart(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	before, after, there := newSpans(t), newSpans(t), newSpans(t)
	file := &url.URL{Scheme: "sqlite", Path: filepath.Join(t.TempDir(), "outbox.db")}
	open := func() persist.Store {
		store, err := persist.Open(ctx, file.String(), sqlite.Driver{})
		require.NoError(t, err)
		return store
	}
	store := open()
	first, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}, TracerProvider: before.provider,
	})
	require.NoError(t, err)
	_, err = first.Enqueue(ctx, autopaho.Message{Topic: "a/b"})
	require.NoError(t, err)
	require.NoError(t, first.Close(ctx))
	require.NoError(t, store.Close(ctx))

	sub := client(t, autopaho.Config{Servers: []string{b.URL()}, TracerProvider: there.provider})
	_, err = sub.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a/+"}, Handler: newEffects().handle})
	require.NoError(t, err)
	store = open()
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, TracerProvider: after.provider})
	before.await(t, 1)
	after.await(t, 1)
	there.await(t, 2)
	requireTrace(t, before, after, there)
}

// TestTraceOfItsOwn: a message that is passed on stays in the trace from which it
// comes.
func TestTraceOfItsOwn(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	here := newSpans(t)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), TracerProvider: here.provider})
	const own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	own1 := []autopaho.UserProperty{{Name: "traceparent", Value: own}, {Name: "tracestate", Value: "a=1"}}
	q, err := pub.Enqueue(ctx, autopaho.Message{Topic: "one", Properties: persist.Properties{User: own1}})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	all := here.await(t, 2)
	for _, s := range all {
		require.Equal(t, "0af7651916cd43dd8448eb211c80319c", s.SpanContext.TraceID().String(), s.Name)
		require.Equal(t, "b7ad6b7169203331", s.Parent.SpanID().String(), s.Name)
	}
	require.ElementsMatch(t, []string{"traceparent=" + own, "tracestate=a=1"}, traced(b, "one"))

	// Among others: those get the span of the call, which is linked to it.
	here.exporter.Reset()
	q, err = pub.Enqueue(ctx, autopaho.Message{Topic: "two"}, autopaho.Message{Topic: "three", Properties: persist.Properties{User: own1}})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	enqueue := named(t, here.await(t, 3), "enqueue")
	require.Len(t, enqueue.Links, 1)
	require.Equal(t, "b7ad6b7169203331", enqueue.Links[0].SpanContext.SpanID().String())
	require.Equal(t, []string{"traceparent=00-" + enqueue.SpanContext.TraceID().String() + "-" + enqueue.SpanContext.SpanID().String() + "-01"}, traced(b, "two"))
	require.ElementsMatch(t, []string{"traceparent=" + own, "tracestate=a=1"}, traced(b, "three"))
}

// traced are the user properties of a message that concern its trace.
func traced(b *brokertest.Broker, topic string) []string {
	var all []string
	for _, p := range b.FirstArrivals(topic)[0].Packet.Properties {
		if p.ID == brokertest.PropUserProperty && strings.HasPrefix(p.Key, "trace") {
			all = append(all, p.Key+"="+p.Str)
		}
	}
	return all
}

// TestTraceUnsampled: who is not sampled by the publisher is not sampled anywhere,
// and a handler's own spans are told so.
func TestTraceUnsampled(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	here := newSpans(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	there := newSpans(t) // would sample everything
	sub := client(t, autopaho.Config{Servers: []string{b.URL()}, TracerProvider: there.provider})
	inner := make(chan trace.SpanContext, 1)
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Handler: func(ctx context.Context, _ *autopaho.Received) error {
		inner <- trace.SpanContextFromContext(ctx)
		return nil
	}})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), TracerProvider: here.provider})
	q, err := pub.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	got := <-inner
	require.True(t, got.IsValid() && got.IsRemote() && !got.IsSampled(), "%v", got)
	require.NoError(t, sub.Close(ctx))
	require.Empty(t, here.exporter.GetSpans())
	require.Empty(t, there.exporter.GetSpans())

	// Of a message that says nothing the consumer decides.
	sub = client(t, autopaho.Config{Servers: []string{b.URL()}, TracerProvider: there.provider})
	_, err = sub.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"b"}, Handler: newEffects().handle})
	require.NoError(t, err)
	_, err = client(t, autopaho.Config{Servers: []string{b.URL()}}).Publish(ctx, autopaho.Message{Topic: "b", QoS: 1})
	require.NoError(t, err)
	all := there.await(t, 2)
	receive, process := named(t, all, "receive b"), named(t, all, "process b")
	require.False(t, receive.Parent.IsValid())
	requireChild(t, &process, &receive)
}

// TestTraceFailures: each run of a handler has its span, with the error; the
// delivery's lasts until the dead letter is stored. So it is for a batch, whose span
// is linked to the other deliveries.
func TestTraceFailures(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "refused", Code: 0x87}}})
	ctx := within(t, 60*time.Second)
	here := newSpans(t)
	sub := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}, TracerProvider: here.provider,
	})
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", Attempts: 2,
		Handler: func(context.Context, *autopaho.Received) error { return errors.New("no luck") },
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, TracerProvider: here.provider})
	_, err = pub.Publish(ctx, autopaho.Message{Topic: "a", QoS: 1, ID: "m-1"})
	require.NoError(t, err)
	all := here.await(t, 4)
	publish, receive := named(t, all, "publish"), named(t, all, "receive a")
	requireChild(t, &receive, &publish)
	require.Equal(t, "dead", attributeOf(&receive, "oncemq.outcome"))
	var attempts []any
	for i := range all {
		if all[i].Name == "process a" {
			requireChild(t, &all[i], &receive)
			require.Equal(t, codes.Error, all[i].Status.Code)
			require.Equal(t, "no luck", all[i].Status.Description)
			attempts = append(attempts, attributeOf(&all[i], "oncemq.attempt"))
		}
	}
	require.Equal(t, []any{int64(1), int64(2)}, attempts)

	here.exporter.Reset()
	_, err = pub.Publish(ctx, autopaho.Message{Topic: "refused", QoS: 1})
	require.Error(t, err)
	all = here.await(t, 1)
	require.Equal(t, codes.Error, all[0].Status.Code)
}

// TestTraceOfBatch: the span of a batch handler is a child of one delivery and
// linked to the others.
func TestTraceOfBatch(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	here := newSpans(t)
	sub := client(t, autopaho.Config{Servers: []string{b.URL()}, TracerProvider: here.provider})
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, MaxBatch: 3, MaxWait: time.Minute,
		BatchHandler: func(context.Context, []*autopaho.Received) error { return nil },
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), TracerProvider: here.provider})
	m := autopaho.Message{Topic: "a"}
	_, err = pub.Enqueue(ctx, m, m, m)
	require.NoError(t, err)
	all := here.await(t, 1+3+3+1)
	enqueue, process := named(t, all, "enqueue"), named(t, all, "process a")
	require.Equal(t, int64(3), attributeOf(&enqueue, "messaging.batch.message_count"))
	require.Len(t, process.Links, 2)
	parents := []trace.SpanID{process.Parent.SpanID(), process.Links[0].SpanContext.SpanID(), process.Links[1].SpanContext.SpanID()}
	var deliveries []trace.SpanID
	for i := range all {
		if all[i].Name == "receive a" {
			requireChild(t, &all[i], &enqueue)
			deliveries = append(deliveries, all[i].SpanContext.SpanID())
		}
	}
	require.ElementsMatch(t, deliveries, parents)
}
