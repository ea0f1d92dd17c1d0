package demo

import (
	"time"

	"github.com/oncemq/oncemq/fault/drill"
)

// Result is what the demo has counted.
type Result struct {
	Messages int            `json:"messages"`
	Seed     uint64         `json:"seed"`
	Sabotage drill.Sabotage `json:"sabotage"`

	BrokerKills  int `json:"broker_kills"`
	ReplicaKills int `json:"replica_kills"`
	// HeldAtKills is how many messages the broker had acknowledged and not
	// passed on, at each kill.
	HeldAtKills []int `json:"held_at_kills"`

	// Enqueued counts the messages that Enqueue has accepted, Delivered those
	// among them that the broker has acknowledged, Acknowledged those whose
	// receipt a consumer has sent.
	Enqueued     int `json:"enqueued"`
	Delivered    int `json:"delivered"`
	Acknowledged int `json:"acknowledged"`
	// Redelivered counts the copies that the broker sent to the replicas beyond
	// the first of each message.
	Redelivered int `json:"redelivered"`
	// DuplicatesSuppressed counts the copies that a replica received and did
	// not process, as the replicas reported it.
	DuplicatesSuppressed int `json:"duplicates_suppressed"`
	// Effects counts the rows that the handlers wrote.
	Effects int `json:"effects"`
	// Lost counts the enqueued messages without an effect, Doubled the effects
	// beyond the first of a message.
	Lost    int `json:"lost"`
	Doubled int `json:"doubled"`
	// Unknown counts effects of messages that were not enqueued, Open messages
	// that are still in the outbox. Both are zero, or something is wrong.
	Unknown int `json:"unknown"`
	Open    int `json:"open"`
	// TimedOut tells that the limit passed before everything had come to rest.
	TimedOut bool `json:"timed_out"`

	// OK tells that nothing was lost or doubled, and that all came to rest.
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	// Folder is where the files are, if they were kept.
	Folder string `json:"folder,omitempty"`
}

// Took is how long the demo took.
func (r *Result) Took() time.Duration { return time.Duration(r.Seconds * float64(time.Second)) }

// Forgotten is how many messages the broker had acknowledged and not passed on
// when it was killed, all kills together.
func (r *Result) Forgotten() int {
	sum := 0
	for _, n := range r.HeldAtKills {
		sum += n
	}
	return sum
}
