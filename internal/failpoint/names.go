package failpoint

import "slices"

// Point names a place where a process can be made to die.
type Point string

// The points, in the order in which a message passes them.
const (
	// EnqueueBefore and EnqueueAfter are around the store's commit: the caller
	// was not answered yet.
	EnqueueBefore Point = "enqueue-before"
	EnqueueAfter  Point = "enqueue-after"

	// RelayAfterRead is between reading a page and queueing it; RelayAfterAck
	// when the broker's answer is known and nothing of it is stored;
	// RelayBeforeSettle and RelayAfterSettle are around its settlement.
	RelayAfterRead    Point = "relay-after-read"
	RelayAfterAck     Point = "relay-after-ack"
	RelayBeforeSettle Point = "relay-before-settle"
	RelayAfterSettle  Point = "relay-after-settle"

	// BeforeWrite and AfterWrite are around the writing of a buffer of packets
	// to the network: PUBLISH and PUBREL of a relay, acknowledgements of a
	// subscriber.
	BeforeWrite Point = "before-write"
	AfterWrite  Point = "after-write"
	// AfterPubrec is before anything is done about a PUBREC, AfterPubcomp about
	// a PUBCOMP, and BeforePubrel when a PUBREL is put into the buffer.
	AfterPubrec  Point = "after-pubrec"
	BeforePubrel Point = "before-pubrel"
	AfterPubcomp Point = "after-pubcomp"

	// ConsumerAfterReceive is when a message was read from the network,
	// ConsumerAfterClaim when its key was granted, HandlerMiddle is for handlers
	// to hit before their effect, ConsumerAfterEffect is when the handler has
	// succeeded and nothing is marked (in transactional mode: committed), and
	// ConsumerAfterMark when the mark is durable and the broker knows nothing.
	ConsumerAfterReceive Point = "consumer-after-receive"
	ConsumerAfterClaim   Point = "consumer-after-claim"
	HandlerMiddle        Point = "handler-middle"
	ConsumerAfterEffect  Point = "consumer-after-effect"
	ConsumerAfterMark    Point = "consumer-after-mark"
)

// Points are all of them.
func Points() []Point {
	return []Point{
		EnqueueBefore, EnqueueAfter,
		RelayAfterRead, RelayAfterAck, RelayBeforeSettle, RelayAfterSettle,
		BeforeWrite, AfterWrite, AfterPubrec, BeforePubrel, AfterPubcomp,
		ConsumerAfterReceive, ConsumerAfterClaim, HandlerMiddle, ConsumerAfterEffect, ConsumerAfterMark,
	}
}

// Rule names a rule that a mutant breaks.
type Rule string

// The rules.
const (
	// DeleteBeforeAck: a message is settled as it is read.
	DeleteBeforeAck Rule = "delete-before-ack"
	// MarkBeforeEffect: a key is completed before its handler runs.
	MarkBeforeEffect Rule = "mark-before-effect"
	// EpochUnchecked: the store takes a completion whatever its epoch.
	EpochUnchecked Rule = "epoch-unchecked"
	// AckBeforeMark: the broker gets its acknowledgement when the handler begins.
	AckBeforeMark Rule = "ack-before-mark"
	// ResendAfterPubrec: a new connection sends PUBLISH again where PUBREL is due.
	ResendAfterPubrec Rule = "resend-after-pubrec"
	// PageByHighest: a reader never looks behind the highest position it has seen.
	PageByHighest Rule = "page-by-highest"
	// IgnorePubrecCode: a PUBREC that refuses counts as one that does not.
	IgnorePubrecCode Rule = "ignore-pubrec-code"
)

// Rules are all of them.
func Rules() []Rule {
	return []Rule{
		DeleteBeforeAck, MarkBeforeEffect, EpochUnchecked, AckBeforeMark,
		ResendAfterPubrec, PageByHighest, IgnorePubrecCode,
	}
}

func known[T comparable](all []T, name T) bool { return slices.Contains(all, name) }
