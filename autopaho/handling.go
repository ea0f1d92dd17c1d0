package autopaho

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// handling is one run of a handler, as metrics and traces see it.
type handling struct {
	sub   *Subscription
	by    *filterCounters
	begun time.Time  // zero without metrics
	span  trace.Span // nil without a span
}

// handling begins a run for the items, of which there is one at least, and returns
// the handler's context. Without metrics and traces it does nothing.
func (s *Subscription) handling(ctx context.Context, items ...*item) (context.Context, handling) {
	h := handling{sub: s}
	c := s.client
	if c.metrics == nil && c.tracing == nil {
		return ctx, h
	}
	h.by = items[0].by
	h.begun = c.metrics.timed()
	if c.tracing != nil {
		ctx, h.span = c.tracing.process(ctx, items)
	}
	return ctx, h
}

// errPanicked stands for the error of a handler that does not return, where it is
// not ours to catch its panic.
var errPanicked error = &PanicError{}

// end ends it with the handler's error.
func (h *handling) end(err error) {
	if m := h.sub.client.metrics; m != nil {
		m.processed(h.by, time.Since(h.begun), err)
	}
	if h.span != nil {
		endSpan(h.span, err)
	}
}
