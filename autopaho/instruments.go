package autopaho

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/oncemq/oncemq/persist"
)

// recipe makes the instruments of metrics, and what observes them. After the first
// error it does nothing more. docs/observability.md lists them.
type recipe struct {
	meter   metric.Meter
	metrics *metrics
	err     error
}

const (
	unitMessages    = "{message}"
	unitConnections = "{connection}"
	unitHandlers    = "{handler}"
	unitLanes       = "{lane}"
	unitBytes       = "By"
	unitSeconds     = "s"
)

// use has f called at each collection.
func (r *recipe) use(f func(metric.Observer, *observation)) {
	r.metrics.observe = append(r.metrics.observe, f)
}

// keep takes an instrument and the error of making it.
func keep[T metric.Observable](r *recipe, instrument T, err error) T {
	if err != nil && r.err == nil {
		r.err = err
	}
	r.metrics.instruments = append(r.metrics.instruments, instrument)
	return instrument
}

func (r *recipe) counter(name, unit, text string) metric.Int64ObservableCounter {
	i, err := r.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	return keep(r, i, err)
}

func (r *recipe) gauge(name, unit, text string) metric.Int64ObservableGauge {
	i, err := r.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	return keep(r, i, err)
}

func (r *recipe) upDown(name, unit, text string) metric.Int64ObservableUpDownCounter {
	i, err := r.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	return keep(r, i, err)
}

// with are attributes of an observation.
func with(attributes ...attribute.KeyValue) metric.ObserveOption {
	return metric.WithAttributeSet(attribute.NewSet(attributes...))
}

// counterMetric is one of the client's Counters.
type counterMetric struct {
	name, unit, text string
	attributes       []attribute.KeyValue
	value            func(*Counters) uint64
}

// counterMetrics are all of them, but for Stuck, which is no counter.
func counterMetrics() []counterMetric {
	system := attrSystem.String(systemMQTT)
	return []counterMetric{
		{"messaging.client.sent.messages", unitMessages, "Messages of the outbox that the broker answered.", []attribute.KeyValue{system, attrOperation.String("publish")}, func(c *Counters) uint64 { return c.Sent }},
		{"messaging.client.consumed.messages", unitMessages, "Messages that the broker sent.", []attribute.KeyValue{system, attrOperation.String("receive")}, func(c *Counters) uint64 { return c.Received }},
		{"oncemq.relay.delivered", unitMessages, "Messages of the outbox that the broker took.", nil, func(c *Counters) uint64 { return c.Delivered }},
		{"oncemq.relay.no_subscribers", unitMessages, "Delivered messages that had no subscriber.", nil, func(c *Counters) uint64 { return c.NoSubscribers }},
		{"oncemq.relay.acknowledged", unitMessages, "Messages of the outbox whose receipt came.", nil, func(c *Counters) uint64 { return c.Acknowledged }},
		{"oncemq.relay.retried", unitMessages, "Refusals by the broker after which a message is tried again.", nil, func(c *Counters) uint64 { return c.Retried }},
		{"oncemq.relay.failed", unitMessages, "Messages of the outbox that failed for good.", nil, func(c *Counters) uint64 { return c.Failed }},
		{"oncemq.relay.expired", unitMessages, "Messages of the outbox that expired.", nil, func(c *Counters) uint64 { return c.Expired }},
		{"oncemq.relay.superseded", unitMessages, "Messages that gave way to a newer one after they had been read from the store.", nil, func(c *Counters) uint64 { return c.Superseded }},
		{"oncemq.relay.resent", unitMessages, "Messages sent again because their receipt did not come in time.", nil, func(c *Counters) uint64 { return c.Resent }},
		{"oncemq.receipts.sent", unitMessages, "Receipts that were published.", nil, func(c *Counters) uint64 { return c.ReceiptsSent }},
		{"oncemq.receipts.unknown", unitMessages, "Receipts that answer nothing that is in the outbox.", nil, func(c *Counters) uint64 { return c.UnknownReceipts }},
		{"oncemq.receipts.forged", unitMessages, "Receipts without a right signature.", nil, func(c *Counters) uint64 { return c.ForgedReceipts }},
		{"oncemq.consumer.redelivered", unitMessages, "Received messages with the DUP flag.", nil, func(c *Counters) uint64 { return c.Redelivered }},
		{"oncemq.consumer.processed", unitMessages, "Received messages that were processed.", nil, func(c *Counters) uint64 { return c.Processed }},
		{"oncemq.consumer.duplicates", unitMessages, "Received messages that had been processed before.", nil, func(c *Counters) uint64 { return c.Duplicates }},
		{"oncemq.consumer.dead", unitMessages, "Received messages that became dead letters.", nil, func(c *Counters) uint64 { return c.Dead }},
		{"oncemq.consumer.too_old", unitMessages, "Received messages that became dead letters because they came after the dedup window.", nil, func(c *Counters) uint64 { return c.TooOld }},
		{"oncemq.consumer.handler_errors", "{error}", "Failures of handlers.", nil, func(c *Counters) uint64 { return c.HandlerErrors }},
		{"oncemq.consumer.unkeyed", unitMessages, "Received messages without a dedup key.", nil, func(c *Counters) uint64 { return c.Unkeyed }},
		{"oncemq.consumer.unrouted", unitMessages, "Received messages that no subscription wanted.", nil, func(c *Counters) uint64 { return c.Unrouted }},
		{"oncemq.consumer.dropped_qos0", unitMessages, "Received messages of QoS 0 that no worker had time for.", nil, func(c *Counters) uint64 { return c.DroppedQoS0 }},
		{"oncemq.connection.connects", unitConnections, "Connections that were made.", nil, func(c *Counters) uint64 { return c.Connects }},
		{"oncemq.connection.errors", "{attempt}", "Attempts to connect that failed.", nil, func(c *Counters) uint64 { return c.ConnectErrors }},
	}
}

// counters are the client's Counters.
func (r *recipe) counters() {
	for _, c := range counterMetrics() {
		i, attributes := r.counter(c.name, c.unit, c.text), with(c.attributes...)
		r.use(func(o metric.Observer, seen *observation) {
			o.ObserveInt64(i, int64(c.value(&seen.status.Counters)), attributes)
		})
	}
	stuck := r.upDown("oncemq.consumer.handlers.stuck", unitHandlers, "Handlers that have not returned in time and still run.")
	r.use(func(o metric.Observer, seen *observation) { o.ObserveInt64(stuck, seen.status.Counters.Stuck) })
}

// connections are those of the sessions in use.
func (r *recipe) connections() {
	state := r.gauge("oncemq.connection.state", unitConnections, "1 for the state that the connection of a session has, 0 for the others.")
	inFlight := r.upDown("oncemq.connection.in_flight", unitMessages, "Messages sent and not answered by the broker.")
	unacked := r.upDown("oncemq.connection.unacked", unitMessages, "Messages received and not acknowledged.")
	states := []ConnState{StateDisconnected, StateConnecting, StateConnected, StateReconnecting, StateError}
	r.use(func(o metric.Observer, seen *observation) {
		for i := range seen.status.Connections {
			c := &seen.status.Connections[i]
			who := []attribute.KeyValue{attrRole.String(string(c.Role)), attrClientID.String(c.ClientID)}
			if c.Role == RoleRelay {
				who = append(who, attrLane.Int(c.Lane))
			}
			for _, s := range states {
				o.ObserveInt64(state, oneIf(s == c.State), with(append(who[:len(who):len(who)], attrConnState.String(string(s)))...))
			}
			o.ObserveInt64(inFlight, int64(c.InFlight), with(who...))
			o.ObserveInt64(unacked, int64(c.Unacked), with(who...))
		}
	})
	if cfg := &r.metrics.client.cfg; cfg.Store != nil && !cfg.Relay.Off {
		lanes := r.upDown("oncemq.relay.lanes", unitLanes, "Lanes that this relay delivers.")
		r.use(func(o metric.Observer, seen *observation) { o.ObserveInt64(lanes, int64(len(seen.status.Lanes))) })
	}
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// filters are the counters of subscriptions by topic filter. Those that share a
// group and a filter are counted together.
func (r *recipe) filters() {
	type counter struct {
		instrument metric.Int64ObservableCounter
		value      func(*FilterStatus) uint64
	}
	counters := []counter{
		{r.counter("oncemq.subscription.received", unitMessages, "Messages that came by a topic filter."), func(f *FilterStatus) uint64 { return f.Received }},
		{r.counter("oncemq.subscription.processed", unitMessages, "Of these, those that were processed."), func(f *FilterStatus) uint64 { return f.Processed }},
		{r.counter("oncemq.subscription.duplicates", unitMessages, "Of these, those that had been processed before."), func(f *FilterStatus) uint64 { return f.Duplicates }},
		{r.counter("oncemq.subscription.retried", unitMessages, "Failures of a handler after which a message is tried again."), func(f *FilterStatus) uint64 { return f.Retried }},
		{r.counter("oncemq.subscription.dead", unitMessages, "Of these, those that became dead letters."), func(f *FilterStatus) uint64 { return f.Dead }},
	}
	r.use(func(o metric.Observer, seen *observation) {
		for i := range seen.status.Subscriptions {
			s := &seen.status.Subscriptions[i]
			for j := range s.Filters {
				f := &s.Filters[j]
				who := with(filterAttributes(s.Group, f.Filter)...)
				for _, c := range counters {
					o.ObserveInt64(c.instrument, int64(c.value(f)), who)
				}
			}
		}
	})
}

func filterAttributes(group, filter string) []attribute.KeyValue {
	who := []attribute.KeyValue{attrSystem.String(systemMQTT), attrFilter.String(filter)}
	if group != "" {
		who = append(who, attrGroup.String(group))
	}
	return who
}

// outbox is what the store holds. While it does not answer there is nothing of it
// but that.
func (r *recipe) outbox() {
	up := r.gauge("oncemq.store.up", "{store}", "1 if the store answered when it was asked last, else 0.")
	age, err := r.meter.Float64ObservableGauge("oncemq.outbox.oldest.age", metric.WithUnit(unitSeconds), metric.WithDescription("Age of the oldest message that awaits the broker; 0 if there is none."))
	age = keep(r, age, err)
	type value struct {
		observe func(metric.Observer, int64, ...metric.ObserveOption)
		of      func(*persist.Stats) int64
		who     metric.ObserveOption
	}
	now := func(name, unit, text string) func(metric.Observer, int64, ...metric.ObserveOption) {
		i := r.gauge(name, unit, text)
		return func(o metric.Observer, n int64, with ...metric.ObserveOption) { o.ObserveInt64(i, n, with...) }
	}
	ever := func(name, unit, text string) func(metric.Observer, int64, ...metric.ObserveOption) {
		i := r.counter(name, unit, text)
		return func(o metric.Observer, n int64, with ...metric.ObserveOption) { o.ObserveInt64(i, n, with...) }
	}
	letters := now("oncemq.dead_letters", unitMessages, "Dead letters in the store.")
	kind := func(k string) metric.ObserveOption { return with(attrLetters.String(k)) }
	values := []value{
		{now("oncemq.outbox.pending", unitMessages, "Messages that await the broker."), func(s *persist.Stats) int64 { return s.Pending }, with()},
		{now("oncemq.outbox.awaiting_receipt", unitMessages, "Delivered messages that await a receipt."), func(s *persist.Stats) int64 { return s.Delivered }, with()},
		{now("oncemq.outbox.size", unitBytes, "Bytes of the messages in the outbox."), func(s *persist.Stats) int64 { return s.Bytes }, with()},
		{letters, func(s *persist.Stats) int64 { return s.Failed }, kind("failed")},
		{letters, func(s *persist.Stats) int64 { return s.Expired }, kind("expired")},
		{letters, func(s *persist.Stats) int64 { return s.ConsumerDead }, kind("consumer")},
		{ever("oncemq.outbox.dropped", unitMessages, "Messages that gave way in a full outbox."), func(s *persist.Stats) int64 { return s.Dropped }, with()},
		{ever("oncemq.outbox.superseded", unitMessages, "Messages that gave way to a newer one of their key before they were read."), func(s *persist.Stats) int64 { return s.Superseded }, with()},
		{now("oncemq.dedup.completed", "{key}", "Keys that are remembered as processed."), func(s *persist.Stats) int64 { return s.Completed }, with()},
		{now("oncemq.dedup.in_work", "{key}", "Keys that are claimed."), func(s *persist.Stats) int64 { return s.InWork }, with()},
	}
	// Zero is no limit, and no series.
	limits := []value{
		{now("oncemq.outbox.limit", unitMessages, "The most messages that the outbox may hold."), func(s *persist.Stats) int64 { return int64(s.Limits.Messages) }, with()},
		{now("oncemq.outbox.size.limit", unitBytes, "The most bytes that the outbox may hold."), func(s *persist.Stats) int64 { return s.Limits.Bytes }, with()},
	}
	r.use(func(o metric.Observer, seen *observation) {
		st := seen.status.Outbox
		o.ObserveInt64(up, oneIf(st != nil))
		if st == nil {
			return
		}
		o.ObserveFloat64(age, st.OldestPending.Seconds())
		for _, v := range values {
			v.observe(o, v.of(st), v.who)
		}
		for _, v := range limits {
			if n := v.of(st); n > 0 {
				v.observe(o, n, v.who)
			}
		}
	})
}

func (r *recipe) breakers() {
	state := r.gauge("oncemq.breaker.state", "{breaker}", "1 for the state that a circuit breaker has, 0 for the others.")
	states := []BreakerState{BreakerClosed, BreakerOpen, BreakerHalfOpen}
	r.use(func(o metric.Observer, seen *observation) {
		for i := range seen.status.Breakers {
			b := &seen.status.Breakers[i]
			for _, s := range states {
				o.ObserveInt64(state, oneIf(s == b.State), with(attrBreaker.String(string(b.Name)), attrBreakerState.String(string(s))))
			}
		}
	})
}

// durations are the histograms.
func (r *recipe) durations() {
	m := r.metrics
	histogram := func(name, text string, bounds ...float64) metric.Float64Histogram {
		h, err := r.meter.Float64Histogram(name, metric.WithUnit(unitSeconds), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
		if err != nil && r.err == nil {
			r.err = err
		}
		return h
	}
	short := []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}
	long := []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400}
	m.process = histogram("messaging.process.duration", "How long handlers ran, each run by itself; a batch handler for its batch.", short...)
	m.send = histogram("messaging.client.operation.duration", "From a PUBLISH of the outbox to the broker's answer, for one message of each batch of answers.", short...)
	m.delivery = histogram("oncemq.outbox.delivery.duration", "From the commit of a message to the broker's answer, for one message of each batch of answers.", long...)
	m.store = histogram("oncemq.store.operation.duration", "How long calls of the store took.", short...)
	m.sent = metric.WithAttributeSet(attribute.NewSet(
		attrSystem.String(systemMQTT), attrOperation.String("publish"), attrOperationType.String("send")))
	for _, c := range []storeCall{callEnqueue, callRead, callSettle, callClaim, callComplete} {
		m.calls[c] = metric.WithAttributeSet(attribute.NewSet(attrStoreCall.String(string(c))))
	}
}
