package brokertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Arrival is a PUBLISH that a client sent and the broker read.
type Arrival struct {
	// Seq counts the arrivals from 1, Conn the connections.
	Seq      int
	Conn     int
	ClientID string
	Packet   *Packet
	// MessageID is the user property "message-id", or "".
	MessageID string
	// Code is the reason code with which it was answered; for QoS 0, the one
	// that it would have got. With 0x80 or more it was not passed on.
	Code byte
	// Repeat is true if the broker still had the QoS 2 exchange that this
	// packet repeats, and so did not pass it on a second time.
	Repeat bool
}

// Stats count what a broker did since it was made.
type Stats struct {
	// Connections accepted, of which Drops were reset by DropEvery.
	Connections, Drops int
	// Takeovers are connections that were closed because their client ID
	// connected again.
	Takeovers int
	// Arrivals are the PUBLISH packets read; FirstArrivals those that are
	// among FirstArrivals of any topic.
	Arrivals, FirstArrivals int
	// Deliveries are the PUBLISH packets sent to subscribers, of which
	// Redeliveries had DUP set.
	Deliveries, Redeliveries int
	// Refusals are PUBACK and PUBREC of subscribers with 0x80 or more.
	Refusals int
	// Discarded messages were too large for the subscriber, or QoS 0 and the
	// subscriber away.
	Discarded int
}

// history is what the broker remembers for assertions.
type history struct {
	mu         sync.Mutex
	arrivals   []Arrival
	first      map[string][]Arrival
	seen       map[string]struct{}
	violations []string
	stats      Stats
	changed    chan struct{} // closed and replaced at each change
}

func newHistory() *history {
	return &history{first: map[string][]Arrival{}, seen: map[string]struct{}{}, changed: make(chan struct{})}
}

// update changes the history and wakes those who wait for a change.
func (h *history) update(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *history) arrive(a Arrival) {
	h.update(func() {
		a.Seq = len(h.arrivals) + 1
		h.arrivals = append(h.arrivals, a)
		h.stats.Arrivals++
		if a.Code >= 0x80 || a.Repeat {
			return
		}
		if a.MessageID != "" {
			if _, again := h.seen[a.MessageID]; again {
				return
			}
			h.seen[a.MessageID] = struct{}{}
		}
		h.stats.FirstArrivals++
		h.first[a.Packet.Topic] = append(h.first[a.Packet.Topic], a)
	})
}

func (h *history) violate(format string, args ...any) {
	h.update(func() { h.violations = append(h.violations, fmt.Sprintf(format, args...)) })
}

func (h *history) count(change func(*Stats)) {
	h.update(func() { change(&h.stats) })
}

// Arrivals are all PUBLISH packets that were read, refused and repeated ones
// included, in order.
func (b *Broker) Arrivals() []Arrival {
	b.history.mu.Lock()
	defer b.history.mu.Unlock()
	return slices.Clone(b.history.arrivals)
}

// FirstArrivals are the messages of a topic that were taken, in order, each
// message ID once: at its first arrival. Messages without a message ID all
// count.
func (b *Broker) FirstArrivals(topic string) []Arrival {
	b.history.mu.Lock()
	defer b.history.mu.Unlock()
	return slices.Clone(b.history.first[topic])
}

// Violations are what clients did that MQTT 5 forbids, a sentence each with
// the connection, the client and the packet.
func (b *Broker) Violations() []string {
	b.history.mu.Lock()
	defer b.history.mu.Unlock()
	return slices.Clone(b.history.violations)
}

// Stats are the counters as they are now.
func (b *Broker) Stats() Stats {
	b.history.mu.Lock()
	defer b.history.mu.Unlock()
	return b.history.stats
}

// Connections is how many connections were accepted so far.
func (b *Broker) Connections() int { return b.Stats().Connections }

// Wait returns nil once cond is true. It looks again whenever something has
// happened in the broker, and returns the error of ctx if that ends before.
// cond may call the broker's methods.
func (b *Broker) Wait(ctx context.Context, cond func() bool) error {
	for {
		b.history.mu.Lock()
		changed := b.history.changed
		b.history.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitFirstArrivals waits until so many messages, of any topic, have arrived a
// first time.
func (b *Broker) WaitFirstArrivals(ctx context.Context, n int) error {
	err := b.Wait(ctx, func() bool { return b.Stats().FirstArrivals >= n })
	if err != nil {
		return fmt.Errorf("%d of %d messages arrived: %w", b.Stats().FirstArrivals, n, err)
	}
	return nil
}
