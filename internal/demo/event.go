package demo

import "time"

// EventKind is what an [Event] tells.
type EventKind string

// The kinds of events.
const (
	// EventProgress: the counts as they are now.
	EventProgress EventKind = "progress"
	// EventBrokerKilled: the broker is gone; Held is what it took along.
	EventBrokerKilled EventKind = "broker killed"
	// EventBrokerStarted: an empty broker listens on the same port.
	EventBrokerStarted EventKind = "broker started"
	// EventReplicaKilled: a replica was killed; Held is what it was working on.
	EventReplicaKilled EventKind = "replica killed"
	// EventReplicaStarted: it was started again.
	EventReplicaStarted EventKind = "replica started"
	// EventPublished: all messages are in the outbox, and no kill is to come.
	EventPublished EventKind = "published"
)

// Event is one thing that happened, with the counts at that moment.
type Event struct {
	Kind    EventKind
	Elapsed time.Duration
	// Number is which kill it was, from 1.
	Number int
	// Held is how many messages the killed broker had acknowledged and passed
	// on to nobody, or the killed replica had received and not acknowledged.
	Held int
	// Replica is the replica that it happened to.
	Replica string
	Counts  Counts
}

// Counts are the counts so far.
type Counts struct {
	Messages, Enqueued, Delivered, Acknowledged, Redelivered, Duplicates, Effects int
	// Connected tells whether the broker is up.
	Connected bool
}
