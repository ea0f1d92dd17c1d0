package comparison

import (
	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/oncemq/oncemq/qos"
)

// Counts are messages by what became of them: see the package's words. Sent is
// the sum of Confirmed, Pending and Lost.
type Counts struct {
	Sent       int `json:"sent"`
	Confirmed  int `json:"confirmed"`
	Pending    int `json:"pending"`
	Lost       int `json:"lost"`
	Duplicates int `json:"duplicates"`
}

func (c *Counts) add(other *Counts) {
	c.Sent += other.Sent
	c.Confirmed += other.Confirmed
	c.Pending += other.Pending
	c.Lost += other.Lost
	c.Duplicates += other.Duplicates
}

// Latency is how long confirmed messages took, in milliseconds, by an HDR histogram
// with three significant digits.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// newLatency is what a histogram of microseconds says; nil if it is empty.
func newLatency(h *hdrhistogram.Histogram) *Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	at := func(percent float64) float64 { return float64(h.ValueAtPercentile(percent)) / 1000 }
	return &Latency{P50: at(50), P95: at(95), P99: at(99), Max: float64(h.Max()) / 1000}
}

// Result is what became of the messages of one level over one link.
type Result struct {
	Link  string    `json:"link"`
	Level qos.Level `json:"qos"`
	Counts
	// Latency is the time from hand-over to arrival at the subscriber, Answer
	// that from hand-over to the broker's acknowledgement: PUBACK, or PUBCOMP.
	// Nil if there was none.
	Latency *Latency `json:"latency_ms"`
	Answer  *Latency `json:"acknowledged_ms"`
	// Packets were seen on the wire between publisher and broker.
	Packets Packets `json:"packets"`
	// Handshake is Packets.Handshake, Retransmissions those PUBLISH and PUBREL
	// packets that were sent again.
	Handshake       int `json:"handshake_packets"`
	Retransmissions int `json:"retransmissions"`
	// Connections is how many the publisher has made, Cuts how often the link
	// was cut.
	Connections int `json:"connections"`
	Cuts        int `json:"cuts"`
	// Kinds are the counts of each kind of message.
	Kinds map[string]Counts `json:"kinds"`
}

// Kept tells whether the level's promise was kept: at QoS 1 and 2 everything is
// confirmed, and at QoS 2 nothing arrived twice. QoS 0 promises nothing.
func (r *Result) Kept() bool {
	switch r.Level {
	case qos.AtMostOnce:
		return true
	case qos.AtLeastOnce:
		return r.Confirmed == r.Sent
	case qos.ExactlyOnce:
	}
	return r.Confirmed == r.Sent && r.Duplicates == 0
}
