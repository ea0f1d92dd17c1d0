package autopaho

import "time"

// Unsettled counts the received messages in the work of all subscriptions.
func (c *Client) Unsettled() int {
	c.consumer.mu.Lock()
	defer c.consumer.mu.Unlock()
	n := 0
	for _, s := range c.consumer.subs {
		s.mu.Lock()
		n += s.items.len
		s.mu.Unlock()
	}
	return n
}

// TargetOf is how many lanes a relay drains.
func TargetOf(rank, relays, lanes int) int { return targetOf(rank, relays, lanes) }

// ReceiptMAC signs a receipt.
func ReceiptMAC(key []byte, id, status, reason string) string {
	return string(receiptMAC(key, id, status, reason))
}

// ReceiptTimeout is how long a receipt is waited for.
func ReceiptTimeout(first time.Duration, attempts int) time.Duration {
	return receiptTimeout(first, attempts)
}

// CounterMetrics are the values of the metrics of counters, by name.
func CounterMetrics(c Counters) map[string]uint64 {
	values := make(map[string]uint64)
	for _, m := range counterMetrics() {
		values[m.name] = m.value(&c)
	}
	return values
}

// SetStuckLimit sets for how long a loop may take for a round.
func (c *Client) SetStuckLimit(d time.Duration) { c.stuckLimit = d }

// SetUnroutedWait sets how long a message waits for a Subscribe that wants it, before
// there is one.
func (c *Client) SetUnroutedWait(d time.Duration) { c.unrouted = d }

// RequestsKept is what the session of responses keeps: requests under way, topics,
// subscriptions, and filters to unsubscribe from.
func (c *Client) RequestsKept() [4]int {
	c.mu.Lock()
	r := c.requester
	c.mu.Unlock()
	if r == nil {
		return [4]int{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	return [4]int{len(r.waiting), len(r.topics), len(r.in.subs), len(r.in.unwanted)}
}

// TrackerLimit is how many messages each generation of a tracker knows.
const TrackerLimit = trackerLimit

// Tracked is for how many messages handles wait.
func (c *Client) Tracked() int {
	c.tracker.mu.Lock()
	defer c.tracker.mu.Unlock()
	return len(c.tracker.young) + len(c.tracker.old)
}

// Track has the client wait for the results of messages with such IDs that nobody
// reports.
func (c *Client) Track(ids ...string) {
	c.tracker.add(&Enqueued{client: c, ids: ids, results: make([]Result, len(ids)), flags: make([]resultFlag, len(ids))})
}

// StoreTimeout is how long the relay waits for a call of the store at first.
const StoreTimeout = storeTimeout
