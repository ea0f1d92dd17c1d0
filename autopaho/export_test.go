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
