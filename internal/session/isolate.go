package session

import (
	"errors"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

const (
	// maxCondemned is how many suspects in a row may be failed without one that
	// is accepted in between. A server that drops us whatever we send has
	// another quarrel than the messages.
	maxCondemned = 3

	// maxDrops is how many connections in a row may be dropped without a word
	// while the same message is the oldest in flight, before it is a suspect.
	maxDrops = 3
	// maxTrials is how often a message must have been dropped alone, against a
	// connection that lived without it, to be failed; see trial.
	maxTrials = 3
	// firstQuiet and longestQuiet bound how long a connection must live before
	// it is trusted with a suspect.
	firstQuiet   = 250 * time.Millisecond
	longestQuiet = 10 * time.Second
)

// trial is what is known of a message that may be the reason why the server
// drops the connection without a word. That says less than a DISCONNECT: the
// network does the same, and a server that is broken or starts again. So it is
// found out by an experiment. The suspect is kept back until a new connection has
// lived for a while without it, and has been asked to answer PINGREQ; then it is
// sent, alone. Only a connection that ends sooner after that than it had lived
// before counts against the message. The times grow, so that a network which
// drops connections at random would have to hit the moment after the suspect
// each time. A connection that ends while nothing is in flight clears everybody.
type trial struct {
	drops   int           // in a row, while it was the oldest in flight
	strikes int           // experiments that it failed
	quiet   time.Duration // of the next experiment; zero before it was dropped alone
}

// judge looks for the message that made the server end the connection. e.mu is
// held.
func (e *Engine) judge(dp *packets.Disconnect) []Completion {
	switch {
	case dp == nil && wasDropped(e.cause):
		return e.dropped(time.Now())
	case dp != nil && qos.ClassOf(qos.DISCONNECT, dp.ReasonCode) == qos.Suspect:
		return e.blamed(dp)
	}
	return nil
}

// blamed is told that the server complained about something that we sent. That
// makes all that was in flight suspect; they are then sent one at a time, and one
// that was alone in flight twice when it happened again is failed. It is not
// alone if a SUBSCRIBE was under way, which may as well have been what the server
// did not like.
func (e *Engine) blamed(dp *packets.Disconnect) []Completion {
	var alone *Outgoing
	count := 0
	for o := e.flights.head; o != nil; o = o.next {
		if o.gen == e.gen && o.step == persist.StepPublished {
			alone = o
			o.suspect = true
			count++
		}
	}
	if count == 0 {
		return nil
	}
	e.isolating = true
	if count > 1 || len(e.requests) > 0 || e.condemned >= maxCondemned {
		return nil
	}
	if alone.strikes++; alone.strikes < 2 {
		return nil
	}
	return e.condemn(alone, dp.ReasonCode, "the server ends the connection whenever it is sent this message: "+
		qos.Describe(dp.ReasonCode, reasonOf(dp.Properties)))
}

// dropped is told that the connection ended without a word.
func (e *Engine) dropped(now time.Time) []Completion {
	var head *Outgoing
	count := 0
	for o := e.flights.head; o != nil; o = o.next {
		if o.gen == e.gen && o.step != 0 {
			if head == nil {
				head = o
			}
			count++
		}
	}
	if head == nil {
		e.acquit()
		return nil
	}
	if head.trial == nil {
		head.trial = new(trial)
	}
	t := head.trial
	if !head.suspect || !e.isolating {
		if t.drops++; t.drops < maxDrops {
			return nil
		}
		for o := head; o != nil; o = o.next {
			o.suspect = o.suspect || o.gen == e.gen && o.step != 0
		}
		e.isolating = true
		return nil
	}
	if count > 1 || len(e.requests) > 0 {
		return nil
	}
	before, after := head.sentAt.Sub(e.since), now.Sub(head.sentAt)
	if t.quiet > 0 && before >= t.quiet && after <= before {
		t.strikes++
	}
	t.quiet = min(max(2*t.quiet, 2*after, e.cfg.firstQuiet), longestQuiet)
	switch {
	case t.strikes < maxTrials:
		return nil
	case e.condemned >= maxCondemned:
		// Nothing is accepted at all: it is the server. All are sent as if
		// nothing had been, so that it finds them at once when it is well.
		e.acquit()
		return nil
	}
	return e.condemn(head, 0, "the server drops the connection without a word whenever it is sent this message")
}

// condemn fails a message for what the server does when it gets it.
func (e *Engine) condemn(o *Outgoing, code byte, reason string) []Completion {
	e.condemned++
	e.progress = true // the next attempt to connect does not wait for what this one did
	ended := e.abandon(o, Completion{Out: o, Code: code, Class: qos.Permanent, Reason: reason})
	if o.orphan {
		return nil // nobody waits for it
	}
	return []Completion{ended}
}

// acquit ends all suspicions.
func (e *Engine) acquit() {
	e.isolating = false
	for o := e.flights.head; o != nil; o = o.next {
		o.suspect, o.trial = false, nil
	}
}

// quiet is for how long the connection has still to live before o may be sent.
func (e *Engine) quiet(o *Outgoing, now time.Time) time.Duration {
	if o.trial == nil || o.trial.quiet == 0 {
		return 0
	}
	return o.trial.quiet - now.Sub(e.since)
}

// control begins the part of an experiment without the suspect.
func (e *Engine) control(out []byte, wait time.Duration) []byte {
	if e.controlled == e.gen {
		return out
	}
	e.controlled = e.gen
	time.AfterFunc(wait, e.Wake)
	return append(out, typePingreq<<4, 0)
}

// transportError is what the network said when a connection ended.
type transportError struct {
	op  string
	err error
}

func (e *transportError) Error() string { return e.op + ": " + e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }

// wasDropped tells whether the other side, or the network, ended the connection:
// we did not, and nothing has timed out.
func wasDropped(cause error) bool {
	var transport *transportError
	if !errors.As(cause, &transport) || errors.Is(cause, net.ErrClosed) {
		return false
	}
	var timeout net.Error
	return !errors.As(cause, &timeout) || !timeout.Timeout()
}
