package autopaho

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/oncemq/oncemq/persist"
)

// scopeName is the instrumentation scope of metrics and traces.
const scopeName = "github.com/oncemq/oncemq/autopaho"

// Attributes of metrics and spans: OpenTelemetry's for messaging where there are
// any, ours otherwise.
const (
	attrSystem        = attribute.Key("messaging.system")
	attrOperation     = attribute.Key("messaging.operation.name")
	attrOperationType = attribute.Key("messaging.operation.type")
	attrClientID      = attribute.Key("messaging.client.id")
	attrGroup         = attribute.Key("messaging.consumer.group.name")
	attrFilter        = attribute.Key("messaging.destination.subscription.name")
	attrErrorType     = attribute.Key("error.type")

	attrRole         = attribute.Key("oncemq.connection.role")
	attrConnState    = attribute.Key("oncemq.connection.state")
	attrLane         = attribute.Key("oncemq.lane")
	attrBreaker      = attribute.Key("oncemq.breaker.name")
	attrBreakerState = attribute.Key("oncemq.breaker.state")
	attrLetters      = attribute.Key("oncemq.dead_letter.kind")
	attrStoreCall    = attribute.Key("oncemq.store.operation")
)

// systemMQTT is the value of attrSystem.
const systemMQTT = "mqtt"

const (
	// statsAge is for how long an answer of the store serves for metrics: counting
	// is not free there, and several readers may ask.
	statsAge = 5 * time.Second
	// statsTimeout bounds the wait for it.
	statsTimeout = 2 * time.Second
)

// metrics are the instruments of a client. Everything that is counted anyway is
// observed when a reader collects, which costs the messages nothing; durations are
// recorded as they are known, one for a batch.
type metrics struct {
	client       *Client
	meter        metric.Meter
	registration metric.Registration
	observe      []func(metric.Observer, *observation)
	instruments  []metric.Observable

	process  metric.Float64Histogram
	send     metric.Float64Histogram
	delivery metric.Float64Histogram
	store    metric.Float64Histogram
	sent     metric.MeasurementOption // the attributes of send
	calls    map[storeCall]metric.MeasurementOption

	mu    sync.Mutex // guards the following, and is held while the store is asked
	stats *persist.Stats
	at    time.Time
}

// observation is what one collection is made of.
type observation struct {
	status Status
	now    time.Time
}

// newMetrics makes the instruments, before anything that records is started; it is
// nil without a provider.
func newMetrics(c *Client) (*metrics, error) {
	if c.cfg.MeterProvider == nil {
		return nil, nil //nolint:nilnil // off
	}
	m := &metrics{client: c, meter: c.cfg.MeterProvider.Meter(scopeName), calls: make(map[storeCall]metric.MeasurementOption)}
	r := &recipe{meter: m.meter, metrics: m}
	r.counters()
	r.connections()
	r.filters()
	if c.cfg.Store != nil {
		r.outbox()
	}
	r.breakers()
	r.durations()
	if r.err != nil {
		return nil, meterError(r.err)
	}
	return m, nil
}

func meterError(err error) error { return fmt.Errorf("%w: MeterProvider: %w", ErrConfig, err) }

// start lets readers collect, once all that there is to see has begun.
func (m *metrics) start() error {
	if m == nil {
		return nil
	}
	registration, err := m.meter.RegisterCallback(m.collect, m.instruments...)
	if err != nil {
		return meterError(err)
	}
	m.registration = registration
	return nil
}

// close ends all collecting.
func (m *metrics) close() {
	if m != nil && m.registration != nil {
		_ = m.registration.Unregister() // it has no other error than that it is not known
	}
}

// collect is called by a reader of the user's.
func (m *metrics) collect(ctx context.Context, o metric.Observer) error {
	seen := observation{status: m.client.statusOf(), now: time.Now()}
	if m.client.cfg.Store != nil {
		seen.status.Outbox, seen.status.StoreErr = m.storeStats(ctx)
	}
	for _, f := range m.observe {
		f(o, &seen)
	}
	return nil
}

// storeStats asks the store, unless it was asked a moment ago.
func (m *metrics) storeStats(ctx context.Context) (*persist.Stats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stats != nil && time.Since(m.at) < statsAge {
		return m.stats, nil
	}
	m.stats = nil
	if err := m.client.store.permit(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	st, err := m.client.cfg.Store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	m.stats, m.at = &st, time.Now()
	return m.stats, nil
}

// storeCall names a call of the store as a metric does.
type storeCall string

// The calls whose durations are told.
const (
	callEnqueue  storeCall = "enqueue"
	callRead     storeCall = "read"
	callSettle   storeCall = "settle"
	callClaim    storeCall = "claim"
	callComplete storeCall = "complete"
)

// timed begins the measurement of a call of the store. Without metrics it costs
// nothing.
func (m *metrics) timed() (start time.Time) {
	if m != nil {
		start = time.Now()
	}
	return start
}

// called ends it.
func (m *metrics) called(ctx context.Context, what storeCall, start time.Time, err error) {
	if m == nil || errors.Is(err, context.Canceled) {
		return
	}
	with := m.calls[what]
	if err != nil {
		kind := "_OTHER"
		if isOutage(err) {
			kind = "unavailable"
		}
		with = metric.WithAttributes(attrStoreCall.String(string(what)), attrErrorType.String(kind))
	}
	m.store.Record(context.WithoutCancel(ctx), time.Since(start).Seconds(), with)
}

// answered records how long the first of a batch of answers was waited for: one of
// a batch says as much as all of them, and costs a fraction.
func (m *metrics) answered(now, begun, enqueued time.Time) {
	ctx := context.Background()
	if !begun.IsZero() { // else it has QoS 0
		m.send.Record(ctx, now.Sub(begun).Seconds(), m.sent)
	}
	m.delivery.Record(ctx, max(0, now.Sub(enqueued)).Seconds())
}

// storeAhead is by how much this process's clock is ahead of the store's; zero
// without metrics, which alone ask for it, or if the store does not tell.
func (m *metrics) storeAhead(ctx context.Context) time.Duration {
	if m == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	before := time.Now()
	there, err := m.client.cfg.Store.Time(ctx)
	if err != nil {
		return 0
	}
	return before.Add(time.Since(before) / 2).Sub(there)
}

// processed records how long a handler ran, or a batch handler for its batch.
func (m *metrics) processed(by *filterCounters, took time.Duration, err error) {
	with := by.process
	if err != nil {
		with = metric.WithAttributeSet(attribute.NewSet(append(by.attributes, attrErrorType.String(errorType(err)))...))
	}
	m.process.Record(context.Background(), took.Seconds(), with)
}

// errorType is the class of a handler's error.
func errorType(err error) string {
	var panicked *PanicError
	switch {
	case errors.As(err, &panicked):
		return "panic"
	case errors.Is(err, ErrRelease):
		return "released"
	case errors.Is(err, ErrHandlerTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "_OTHER"
}
