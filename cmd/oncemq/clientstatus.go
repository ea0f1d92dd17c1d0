package main

import (
	"fmt"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// clientObject is the status of a client in JSON.
type clientObject struct {
	Time        string         `json:"time"`
	Connections []connObject   `json:"connections"`
	Breakers    []brakeObject  `json:"breakers"`
	Lanes       []int          `json:"lanes"`
	Outbox      *outboxObject  `json:"outbox,omitempty"`
	StoreError  string         `json:"store_error,omitempty"`
	Counters    countersObject `json:"counters"`
	Filters     []filterObject `json:"filters,omitempty"`
}

// filterObject is what came by a topic filter.
type filterObject struct {
	Filter     string `json:"filter"`
	Group      string `json:"group,omitempty"`
	Received   uint64 `json:"received"`
	Processed  uint64 `json:"processed"`
	Duplicates uint64 `json:"duplicates"`
	Retried    uint64 `json:"retried"`
	Dead       uint64 `json:"dead"`
}

type connObject struct {
	ClientID       string `json:"client_id"`
	State          string `json:"state"`
	Since          string `json:"since"`
	Connects       int    `json:"connects"`
	Attempts       int    `json:"attempts"`
	LastError      string `json:"last_error,omitempty"`
	ErrorClass     string `json:"error_class,omitempty"`
	SessionPresent bool   `json:"session_present"`
	InFlight       int    `json:"in_flight"`
	Unacked        int    `json:"unacked"`
}

type brakeObject struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Since string `json:"since"`
	Error string `json:"error,omitempty"`
}

type outboxObject struct {
	Pending         int64 `json:"pending"`
	Delivered       int64 `json:"delivered"`
	OldestPendingMS int64 `json:"oldest_pending_ms"`
	Bytes           int64 `json:"bytes"`
}

// countersObject count since the command began.
type countersObject struct {
	Sent         uint64 `json:"sent"`
	Delivered    uint64 `json:"delivered"`
	Acknowledged uint64 `json:"acknowledged"`
	SendRetried  uint64 `json:"send_retried"`
	Failed       uint64 `json:"failed"`
	Expired      uint64 `json:"expired"`

	Received   uint64 `json:"received"`
	Redelivery uint64 `json:"redelivered"`
	Processed  uint64 `json:"processed"`
	Duplicates uint64 `json:"duplicates"`
	Retried    uint64 `json:"retried"`
	Dead       uint64 `json:"dead"`
}

func newConnObject(c *autopaho.ConnStatus) connObject {
	o := connObject{
		ClientID: c.ClientID, State: string(c.State), Since: stamp(c.Since), Connects: c.Connects, Attempts: c.Attempts,
		SessionPresent: c.SessionPresent, InFlight: c.InFlight, Unacked: c.Unacked,
	}
	if c.LastError != nil {
		o.LastError, o.ErrorClass = oneLine(c.LastError), string(autopaho.ClassOf(c.LastError))
	}
	return o
}

func newClientObject(s *autopaho.Status, now time.Time) clientObject {
	c := &s.Counters
	o := clientObject{
		Time: stamp(now), Connections: []connObject{}, Breakers: []brakeObject{}, Lanes: append([]int{}, s.Lanes...),
		Counters: countersObject{
			Sent: c.Sent, Delivered: c.Delivered, Acknowledged: c.Acknowledged, SendRetried: c.Retried, Failed: c.Failed,
			Expired: c.Expired, Received: c.Received, Redelivery: c.Redelivered, Processed: c.Processed,
			Duplicates: c.Duplicates, Retried: c.HandlerErrors, Dead: c.Dead,
		},
	}
	for i := range s.Connections {
		o.Connections = append(o.Connections, newConnObject(&s.Connections[i]))
	}
	for _, b := range s.Breakers {
		brake := brakeObject{Name: string(b.Name), State: string(b.State), Since: stamp(b.Since)}
		if b.Err != nil {
			brake.Error = oneLine(b.Err)
		}
		o.Breakers = append(o.Breakers, brake)
	}
	for _, sub := range s.Subscriptions {
		for _, f := range sub.Filters {
			o.Filters = append(o.Filters, filterObject{f.Filter, sub.Group, f.Received, f.Processed, f.Duplicates, f.Retried, f.Dead})
		}
	}
	if s.Outbox != nil {
		o.Outbox = &outboxObject{s.Outbox.Pending, s.Outbox.Delivered, s.Outbox.OldestPending.Milliseconds(), s.Outbox.Bytes}
	}
	if s.StoreErr != nil {
		o.StoreError = oneLine(s.StoreErr)
	}
	return o
}

// stamp is a moment as our JSON has it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// clientLines is the status of a client for a terminal, a thing a line.
func clientLines(s *autopaho.Status, now time.Time) []string {
	var lines []string
	line := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-9s ", name)+visible(fmt.Sprintf(format, args...)))
	}
	for i := range s.Connections {
		c := &s.Connections[i]
		line("broker", "%s for %s, %d in flight, %d unacknowledged, %d connections; %s",
			c.State, shortAge(now.Sub(c.Since)), c.InFlight, c.Unacked, c.Connects, c.ClientID)
		if c.LastError != nil {
			line("", "%d attempts; %s: %s", c.Attempts, autopaho.ClassOf(c.LastError), oneLine(c.LastError))
		}
	}
	for _, b := range s.Breakers {
		if b.State != autopaho.BreakerClosed {
			line("breaker", "%s %s for %s", b.Name, b.State, shortAge(now.Sub(b.Since)))
		}
	}
	if o := s.Outbox; o != nil && (len(s.Lanes) > 0 || o.Pending > 0) {
		oldest := ""
		if o.OldestPending > 0 {
			oldest = ", oldest " + shortAge(o.OldestPending)
		}
		line("outbox", "%d pending%s, %d await receipts", o.Pending, oldest, o.Delivered)
	}
	if s.StoreErr != nil {
		line("store", "%s", oneLine(s.StoreErr))
	}
	c := &s.Counters
	if c.Sent > 0 || len(s.Lanes) > 0 {
		line("sent", "%d delivered, %d retried, %d failed, %d expired", c.Delivered, c.Retried, c.Failed, c.Expired)
	}
	if c.Received > 0 || len(s.Lanes) == 0 {
		line("received", "%d: %d processed, %d duplicates, %d retried, %d dead", c.Received, c.Processed, c.Duplicates, c.HandlerErrors, c.Dead)
	}
	for _, sub := range s.Subscriptions {
		for _, f := range sub.Filters {
			if len(s.Subscriptions) > 1 || len(sub.Filters) > 1 {
				line("", "%s: %d processed, %d duplicates, %d retried, %d dead", f.Filter, f.Processed, f.Duplicates, f.Retried, f.Dead)
			}
		}
	}
	return lines
}

// shortAge is a duration in few characters.
func shortAge(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
