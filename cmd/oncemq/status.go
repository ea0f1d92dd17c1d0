package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// statusLine is a client's status in a line.
func statusLine(s autopaho.Status) string {
	var parts []string
	if s.StoreErr != nil {
		parts = append(parts, "store: "+oneLine(s.StoreErr))
	}
	if o := s.Outbox; o != nil {
		part := fmt.Sprintf("%d pending, %d delivered and awaiting receipts", o.Pending, o.Delivered)
		if o.OldestPending > 0 {
			part += ", oldest " + o.OldestPending.Round(time.Second).String()
		}
		parts = append(parts, part)
	}
	parts = append(parts, fmt.Sprintf("%d lanes held", len(s.Lanes)))
	for i := range s.Connections {
		c := &s.Connections[i]
		parts = append(parts, fmt.Sprintf("%s %s, %d in flight", c.ClientID, c.State, c.InFlight))
	}
	c := &s.Counters
	parts = append(parts, fmt.Sprintf("%d delivered, %d failed, %d expired, %d retried", c.Delivered, c.Failed, c.Expired, c.Retried))
	return strings.Join(parts, "; ")
}

// notEmpty says what is left after a time-out.
func notEmpty(ctx context.Context, store persist.Store, t *trouble) string {
	text := "the outbox is not empty yet"
	if s, err := store.Stats(ctx); err == nil {
		text = fmt.Sprintf("%d pending and %d delivered and awaiting receipts are left", s.Pending, s.Delivered)
	}
	if cause := t.connecting(); cause != nil {
		text += "; last: " + oneLine(cause)
	}
	return text
}
