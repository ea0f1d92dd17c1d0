package autopaho

import (
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// SubscriptionStatus is a subscription at a moment.
type SubscriptionStatus struct {
	// Group is the subscription's; empty for none.
	Group string
	// Agreed tells that the broker has agreed to the subscription on the present
	// connection, or kept it since an earlier one.
	Agreed bool
	// InWork counts received messages that are not settled yet.
	InWork int
	// Filters are its topic filters with what came by each, in the order of
	// SubscribeConfig.Filters.
	Filters []FilterStatus
}

// FilterStatus counts what came by one topic filter since the subscription was
// made. A message that matches several filters of a subscription counts for the
// first of them.
type FilterStatus struct {
	// Filter is the topic filter, without $share and the group.
	Filter string
	// Received counts messages, and Processed, Duplicates and Dead what became of
	// them; Retried counts failures of a handler after which the message is tried
	// again.
	Received, Processed, Duplicates, Retried, Dead uint64
}

// filterCounters are the live FilterStatus.
type filterCounters struct {
	filter                                         string
	label                                          string // what metrics and names of spans say for it
	received, processed, duplicates, retried, dead atomic.Uint64

	attributes []attribute.KeyValue     // those of metrics
	process    metric.MeasurementOption // they, of a handler that succeeded
}

func (f *filterCounters) snapshot() FilterStatus {
	return FilterStatus{
		Filter: f.filter, Received: f.received.Load(), Processed: f.processed.Load(),
		Duplicates: f.duplicates.Load(), Retried: f.retried.Load(), Dead: f.dead.Load(),
	}
}

// temporaryLabel is OpenTelemetry's for a destination of few messages: the topics of
// responses are many, and each would be a series of its own for as long as the process
// lives.
const temporaryLabel = "(temporary)"

func newFilterCounters(cfg *SubscribeConfig, temporary bool) []filterCounters {
	all := make([]filterCounters, len(cfg.Filters))
	for i := range all {
		f := &all[i]
		f.filter, f.label = cfg.Filters[i], cfg.Filters[i]
		if temporary {
			f.label = temporaryLabel
		}
		who := append(filterAttributes(cfg.Group, f.label), attrOperation.String("process"), attrOperationType.String("process"))
		f.attributes, f.process = who[:len(who):len(who)], metric.WithAttributeSet(attribute.NewSet(who...))
	}
	return all
}

// Status is the subscription at this moment.
func (s *Subscription) Status() SubscriptionStatus {
	st := SubscriptionStatus{Group: s.cfg.Group, Agreed: s.live.Load()}
	s.mu.Lock()
	st.InWork = s.items.len
	s.mu.Unlock()
	for i := range s.filters {
		st.Filters = append(st.Filters, s.filters[i].snapshot())
	}
	return st
}

// Subscriptions are those of the client that were made and not closed, in the order
// in which they were made. Asking costs next to nothing.
func (c *Client) Subscriptions() []SubscriptionStatus {
	c.mu.Lock()
	in := c.consumer
	c.mu.Unlock()
	if in == nil {
		return nil
	}
	in.mu.Lock()
	subs := append([]*Subscription(nil), in.subs...)
	in.mu.Unlock()
	var all []SubscriptionStatus
	for _, s := range subs {
		all = append(all, s.Status())
	}
	return all
}
