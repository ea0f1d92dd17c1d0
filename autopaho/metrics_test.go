package autopaho_test

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

// meters is a reader with its provider.
type meters struct {
	reader   *sdkmetric.ManualReader
	provider *sdkmetric.MeterProvider
}

func newMeters(t *testing.T) *meters {
	t.Helper()
	r := sdkmetric.NewManualReader()
	p := sdkmetric.NewMeterProvider(sdkmetric.WithReader(r))
	t.Cleanup(func() { require.NoError(t, p.Shutdown(context.Background())) })
	return &meters{r, p}
}

// collect returns the values by name and attributes, "a.b{c=d e=f}"; of a histogram
// the count.
func (m *meters) collect(t *testing.T) map[string]float64 {
	t.Helper()
	var got metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.Background(), &got))
	values := make(map[string]float64)
	for _, scope := range got.ScopeMetrics {
		for _, i := range scope.Metrics {
			require.NotEmpty(t, i.Description, i.Name)
			require.NotEmpty(t, i.Unit, i.Name)
			switch data := i.Data.(type) {
			case metricdata.Sum[int64]:
				points(values, i.Name, data.DataPoints, func(p metricdata.DataPoint[int64]) (string, float64) { return encoded(p.Attributes), float64(p.Value) })
			case metricdata.Gauge[int64]:
				points(values, i.Name, data.DataPoints, func(p metricdata.DataPoint[int64]) (string, float64) { return encoded(p.Attributes), float64(p.Value) })
			case metricdata.Gauge[float64]:
				points(values, i.Name, data.DataPoints, func(p metricdata.DataPoint[float64]) (string, float64) { return encoded(p.Attributes), p.Value })
			case metricdata.Histogram[float64]:
				points(values, i.Name, data.DataPoints, func(p metricdata.HistogramDataPoint[float64]) (string, float64) {
					return encoded(p.Attributes), float64(p.Count)
				})
			default:
				require.Fail(t, "unknown kind", "%s is a %T", i.Name, data)
			}
		}
	}
	return values
}

func points[P any](values map[string]float64, name string, all []P, read func(P) (string, float64)) {
	for _, p := range all {
		who, v := read(p)
		values[name+"{"+who+"}"] = v
	}
}

func encoded(set attribute.Set) string { return set.Encoded(attribute.DefaultEncoder()) }

// TestMetrics: what a publisher and a subscriber tell of some messages.
func TestMetrics(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	here, there := newMeters(t), newMeters(t)
	sub := client(t, autopaho.Config{
		Servers: []string{b.URL()}, ClientID: "sub", Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true},
		MeterProvider: there.provider,
	})
	fails := map[string]bool{"once": true}
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"z", "a/#"}, Group: "g", Attempts: 2, Workers: 1,
		Backoff: qos.Backoff{Initial: time.Millisecond, Max: time.Millisecond},
		Handler: func(_ context.Context, m *autopaho.Received) error {
			switch text := string(m.Payload); {
			case fails[text]:
				delete(fails, text)
				return errors.New("not yet")
			case text == "dead":
				panic("never")
			}
			return nil
		},
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), MeterProvider: here.provider})
	m := func(payload string) autopaho.Message { return autopaho.Message{Topic: "a/b", Payload: []byte(payload)} }
	q, err := pub.Enqueue(ctx, m("fine"), m("once"), m("dead"), m("fine"))
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	again := m("fine")
	again.ID = q.ID()
	q, err = pub.Enqueue(ctx, again)
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	eventually(t, func() bool { c := sub.Counters(); return c.Processed+c.Dead+c.Duplicates == 5 }, 30*time.Second, 5*time.Millisecond, "settled")
	eventually(t, func() bool { return pub.Status(ctx).Outbox.Pending == 0 }, 30*time.Second, 5*time.Millisecond, "empty")

	got := here.collect(t)
	lane := "messaging.client.id=" + pub.Status(ctx).Connections[0].ClientID + ",oncemq.connection.role=relay"
	for name, want := range map[string]float64{
		"messaging.client.sent.messages{messaging.operation.name=publish,messaging.system=mqtt}": 5,
		"oncemq.relay.delivered{}": 5, "oncemq.relay.failed{}": 0, "oncemq.relay.lanes{}": 1,
		"oncemq.outbox.pending{}": 0, "oncemq.outbox.oldest.age{}": 0, "oncemq.outbox.size{}": 0, "oncemq.store.up{}": 1,
		"oncemq.dead_letters{oncemq.dead_letter.kind=failed}": 0, "oncemq.connection.connects{}": 1,
		"oncemq.connection.state{" + lane + ",oncemq.connection.state=connected,oncemq.lane=0}":    1,
		"oncemq.connection.state{" + lane + ",oncemq.connection.state=reconnecting,oncemq.lane=0}": 0,
		"oncemq.connection.in_flight{" + lane + ",oncemq.lane=0}":                                  0,
		"oncemq.breaker.state{oncemq.breaker.name=store,oncemq.breaker.state=closed}":              1,
		"oncemq.breaker.state{oncemq.breaker.name=broker,oncemq.breaker.state=open}":               0,
		"oncemq.store.operation.duration{oncemq.store.operation=enqueue}":                          2,
	} {
		require.Contains(t, got, name)
		require.Equal(t, want, got[name], name)
	}
	for _, name := range []string{
		"messaging.client.operation.duration{messaging.operation.name=publish,messaging.operation.type=send,messaging.system=mqtt}",
		"oncemq.outbox.delivery.duration{}",
		"oncemq.store.operation.duration{oncemq.store.operation=read}",
		"oncemq.store.operation.duration{oncemq.store.operation=settle}",
	} {
		require.Positive(t, got[name], name)
	}

	got = there.collect(t)
	filter := "messaging.consumer.group.name=g,messaging.destination.subscription.name=a/#,"
	which := "{" + filter + "messaging.system=mqtt}"
	process := filter + "messaging.operation.name=process,messaging.operation.type=process,messaging.system=mqtt}"
	for name, want := range map[string]float64{
		"messaging.client.consumed.messages{messaging.operation.name=receive,messaging.system=mqtt}": 5,
		"oncemq.consumer.processed{}": 3, "oncemq.consumer.duplicates{}": 1, "oncemq.consumer.dead{}": 1,
		"oncemq.consumer.handler_errors{}": 3, "oncemq.consumer.handlers.stuck{}": 0,
		"oncemq.subscription.received" + which: 5, "oncemq.subscription.processed" + which: 3,
		"oncemq.subscription.duplicates" + which: 1, "oncemq.subscription.dead" + which: 1, "oncemq.subscription.retried" + which: 2,
		"messaging.process.duration{" + process:                   3,
		"messaging.process.duration{error.type=panic," + process:  2,
		"messaging.process.duration{error.type=_OTHER," + process: 1,
		"oncemq.dead_letters{oncemq.dead_letter.kind=consumer}":   1,
		"oncemq.dedup.completed{}":                                4,
	} {
		require.Contains(t, got, name)
		require.Equal(t, want, got[name], name)
	}
	require.Positive(t, got["oncemq.store.operation.duration{oncemq.store.operation=claim}"])
	require.Positive(t, got["oncemq.store.operation.duration{oncemq.store.operation=complete}"])
	require.NotContains(t, got, "oncemq.relay.lanes{}", "it is no relay")

	s := sub.Status(ctx).Subscriptions
	require.Len(t, s, 1)
	require.True(t, s[0].Agreed)
	require.Equal(t, []autopaho.FilterStatus{
		{Filter: "z"}, {Filter: "a/#", Received: 5, Processed: 3, Duplicates: 1, Retried: 2, Dead: 1},
	}, s[0].Filters)

	require.NoError(t, pub.Close(ctx))
	require.NotContains(t, here.collect(t), "oncemq.relay.delivered{}", "a closed client tells nothing")
}

// TestMetricsTellAllCounters: each counter has one metric, also one that is added.
func TestMetricsTellAllCounters(t *testing.T) {
	t.Parallel()
	var c autopaho.Counters
	fields := reflect.ValueOf(&c).Elem()
	var want []uint64
	for i := range fields.NumField() {
		if fields.Type().Field(i).Name != "Stuck" {
			fields.Field(i).SetUint(uint64(i + 1))
			want = append(want, uint64(i+1))
		}
	}
	require.ElementsMatch(t, want, slices.Collect(maps.Values(autopaho.CounterMetrics(c))))
}

// TestMetricsWithoutStore: of a store that does not answer they say that, and do not
// wait for it again and again.
func TestMetricsWithoutStore(t *testing.T) {
	t.Parallel()
	store, faults := persisttest.NewFaulty(memoryStore(t))
	m := newMeters(t)
	client(t, autopaho.Config{
		Servers: []string{"mqtt://127.0.0.1:1"}, Store: store, Relay: autopaho.RelayConfig{Off: true}, MeterProvider: m.provider,
	})
	faults.Add(persisttest.Fault{Op: persisttest.OpStats, Times: -1})
	got := m.collect(t)
	require.Contains(t, got, "oncemq.store.up{}")
	require.Zero(t, got["oncemq.store.up{}"])
	require.NotContains(t, got, "oncemq.outbox.pending{}")
	faults.Heal()
	got = m.collect(t)
	require.Equal(t, 1.0, got["oncemq.store.up{}"])
	require.Contains(t, got, "oncemq.outbox.pending{}")
	// Until the answer is too old nobody asks again.
	faults.Add(persisttest.Fault{Op: persisttest.OpStats, Times: -1})
	require.Equal(t, 1.0, m.collect(t)["oncemq.store.up{}"])
}
