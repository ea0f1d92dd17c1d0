package autopaho

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// The attributes of spans alone.
const (
	attrTopic     = attribute.Key("messaging.destination.name")
	attrMessageID = attribute.Key("messaging.message.id")
	attrBodySize  = attribute.Key("messaging.message.body.size")
	attrBatch     = attribute.Key("messaging.batch.message_count")
	attrReason    = attribute.Key("oncemq.reason_code")
	attrOutcome   = attribute.Key("oncemq.outcome")
	attrAttempt   = attribute.Key("oncemq.attempt")
)

// maxLinks bounds the links of a span.
const maxLinks = 128

// tracing makes the spans of a client. What a message belongs to stands in its user
// properties, so that it is in the store and on the wire: the span of Enqueue. The
// spans of the relay and of the delivery are children of it, in whatever process,
// and that of the handler is a child of the delivery's.
type tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	fields     []string // the user properties that the propagator uses
	w3c        bool     // it is that of the W3C alone
}

// newTracing is nil without a provider.
func newTracing(cfg *Config) *tracing {
	if cfg.TracerProvider == nil {
		return nil
	}
	_, w3c := cfg.Propagator.(propagation.TraceContext)
	return &tracing{
		tracer: cfg.TracerProvider.Tracer(scopeName), propagator: cfg.Propagator,
		fields: cfg.Propagator.Fields(), w3c: w3c,
	}
}

// carrier is the user properties of a message, for a propagator.
type carrier []UserProperty

// Get returns the first value of a name.
func (c *carrier) Get(name string) string {
	for i := range *c {
		if (*c)[i].Name == name {
			return (*c)[i].Value
		}
	}
	return ""
}

// Set appends a property.
func (c *carrier) Set(name, value string) {
	*c = append(*c, UserProperty{Name: name, Value: value})
}

// Keys are the names.
func (c *carrier) Keys() []string {
	names := make([]string, len(*c))
	for i := range *c {
		names[i] = (*c)[i].Name
	}
	return names
}

// carries tells whether a message says what it belongs to.
func (t *tracing) carries(m *Message) bool {
	for i := range m.Properties.User {
		if slices.Contains(t.fields, m.Properties.User[i].Name) {
			return true
		}
	}
	return false
}

// traceparent is the field of the W3C that names the span.
const traceparent = "traceparent"

// unsampled tells of a message that it carries what need not be looked at more
// closely: version 00 with the sampled flag unset.
func (t *tracing) unsampled(m *Message) bool {
	if !t.w3c {
		return false
	}
	v, ok := m.Properties.Get(traceparent)
	const size = 55
	return ok && len(v) == size && v[:2] == "00" && (v[size-1]-'0')&1 == 0 && v[size-1] <= '9'
}

// extract adds to ctx what a message carries.
func (t *tracing) extract(ctx context.Context, m *Message) context.Context {
	c := carrier(m.Properties.User)
	return t.propagator.Extract(ctx, &c)
}

// enqueue begins the span of a call of Enqueue, and has the messages carry it but
// for those that belong elsewhere already. One span for a call, whatever it holds:
// so a batch costs as much as a message.
//
// A message with a context of its own keeps it. The span of a call for it alone
// becomes part of its trace; that of a larger call is linked to it.
func (t *tracing) enqueue(ctx context.Context, msgs []Message) trace.Span {
	var links []trace.Link
	var own []int
	for i := range msgs {
		if t.carries(&msgs[i]) {
			own = append(own, i)
		}
	}
	caller := trace.SpanContextFromContext(ctx)
	switch {
	case len(own) == 1 && len(msgs) == 1:
		ctx = t.extract(ctx, &msgs[0])
		if theirs := trace.SpanContextFromContext(ctx); caller.IsValid() && !caller.Equal(theirs) {
			links = append(links, trace.Link{SpanContext: caller})
		}
	default:
		for _, i := range own[:min(len(own), maxLinks)] {
			if theirs := trace.SpanContextFromContext(t.extract(context.Background(), &msgs[i])); theirs.IsValid() {
				links = append(links, trace.Link{SpanContext: theirs})
			}
		}
	}
	ctx, span := t.tracer.Start(ctx, "enqueue", trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(links...))
	if span.IsRecording() {
		span.SetAttributes(attrSystem.String(systemMQTT), attrOperation.String("enqueue"), attrOperationType.String("create"))
		if len(msgs) == 1 {
			span.SetAttributes(messageAttributes(&msgs[0])...)
		} else {
			span.SetAttributes(attrBatch.Int(len(msgs)))
		}
	}
	if len(own) < len(msgs) {
		t.inject(ctx, msgs, own)
	}
	return span
}

// inject has all messages but own carry what is in ctx.
func (t *tracing) inject(ctx context.Context, msgs []Message, own []int) {
	var c carrier
	t.propagator.Inject(ctx, &c)
	if len(c) == 0 {
		return
	}
	c = slices.Clip(c)
	for i := range msgs {
		if len(own) > 0 && own[0] == i {
			own = own[1:]
			continue
		}
		p := &msgs[i].Properties
		if len(p.User) == 0 {
			p.User = c // all share it: nobody changes a message
			continue
		}
		p.User = append(slices.Clip(p.User), c...)
	}
}

// publish begins the span of a call of Publish; the message must not be the
// caller's.
func (t *tracing) publish(ctx context.Context, m *Message) trace.Span {
	if t.carries(m) {
		ctx = t.extract(ctx, m)
	}
	ctx, span := t.tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer))
	if span.IsRecording() {
		span.SetAttributes(attrSystem.String(systemMQTT), attrOperation.String("publish"), attrOperationType.String("send"))
		span.SetAttributes(messageAttributes(m)...)
	}
	if !t.carries(m) {
		msgs := [1]Message{*m}
		t.inject(ctx, msgs[:], nil)
		m.Properties = msgs[0].Properties
	}
	return span
}

// endSpan ends a span with an error, if there is one. That a message was given back
// is none.
func endSpan(span trace.Span, err error) {
	if err != nil && !errors.Is(err, ErrRelease) && span.IsRecording() {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(attrErrorType.String(errorType(err)))
	}
	span.End()
}

func messageAttributes(m *Message) []attribute.KeyValue {
	return []attribute.KeyValue{attrTopic.String(m.Topic), attrMessageID.String(m.ID), attrBodySize.Int(len(m.Payload))}
}

// relayed makes the spans of transmissions, from when they were begun to the
// broker's answer.
func (t *tracing) relayed(done []session.Completion, lane int, now time.Time) {
	for i := range done {
		c := &done[i]
		m := c.Out.Message
		if c.Expired || t.unsampled(m) || !t.carries(m) {
			continue
		}
		ctx := t.extract(context.Background(), m)
		begun := c.Out.FirstAt()
		if begun.IsZero() { // refused before it was sent, or of QoS 0
			begun = now
		}
		_, span := t.tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(begun))
		if span.IsRecording() {
			span.SetAttributes(
				attrSystem.String(systemMQTT), attrOperation.String("publish"), attrOperationType.String("send"),
				attrLane.Int(lane), attrReason.Int(int(c.Code)))
			span.SetAttributes(messageAttributes(m)...)
			if stateOf(c.Class) != persist.StateDelivered {
				span.SetStatus(codes.Error, reasonText(c))
				span.SetAttributes(attrErrorType.String("refused"))
			}
		}
		span.End(trace.WithTimestamp(now))
	}
}

// received begins the span of a delivery; nil if there is none to make.
func (t *tracing) received(s *Subscription, it *item, now time.Time) trace.Span {
	m := &it.received.Message
	if t.unsampled(m) {
		return nil
	}
	_, span := t.tracer.Start(t.extract(context.Background(), m), "receive "+it.by.label,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(now))
	if span.IsRecording() {
		span.SetAttributes(attrSystem.String(systemMQTT), attrOperation.String("receive"), attrOperationType.String("receive"),
			attrFilter.String(it.by.filter), attrClientID.String(s.client.cfg.ClientID))
		span.SetAttributes(messageAttributes(m)...)
		if s.cfg.Group != "" {
			span.SetAttributes(attrGroup.String(s.cfg.Group))
		}
	}
	return span
}

// within is a handler's context: it belongs to the delivery of the message.
func (t *tracing) within(ctx context.Context, it *item) context.Context {
	if t.carries(&it.received.Message) {
		ctx = t.extract(ctx, &it.received.Message)
	}
	if it.span != nil {
		ctx = trace.ContextWithSpan(ctx, it.span)
	}
	return ctx
}

// process begins the span of a handler. For a batch it is a child of the first
// message's delivery that is recorded, and linked to those of the others.
func (t *tracing) process(ctx context.Context, items []*item) (context.Context, trace.Span) {
	first := items[0]
	var links []trace.Link
	for _, it := range items {
		switch {
		case it.span == nil || !it.span.IsRecording():
		case first.span == nil || !first.span.IsRecording():
			first = it
		case it != first && len(links) < maxLinks:
			links = append(links, trace.Link{SpanContext: it.span.SpanContext()})
		}
	}
	ctx = t.within(ctx, first)
	if first.span == nil || !first.span.IsRecording() {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, "process "+first.by.label, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...))
	if span.IsRecording() {
		span.SetAttributes(attrSystem.String(systemMQTT), attrOperation.String("process"), attrOperationType.String("process"),
			attrFilter.String(first.by.filter))
		if len(items) == 1 {
			span.SetAttributes(messageAttributes(&first.received.Message)...)
			span.SetAttributes(attrAttempt.Int(first.received.Attempt))
		} else {
			span.SetAttributes(attrBatch.Int(len(items)))
		}
	}
	return ctx, span
}
