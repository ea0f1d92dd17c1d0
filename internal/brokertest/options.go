package brokertest

import (
	"errors"
	"fmt"
	"time"
)

// Range is a range of numbers, both ends included.
type Range struct{ Min, Max int }

// Action is what becomes of a packet.
type Action byte

const (
	// Pass lets the packet through.
	Pass Action = iota
	// Drop ignores a packet that came in, or leaves out one that was to be
	// sent; the connection stays.
	Drop
	// Cut resets the connection (RST) before the packet has any effect: what
	// came in was never read, what was to be sent is not.
	Cut
	// CutAfter lets the packet through and then closes the connection: after
	// one that came in by RST, after one that was sent by FIN, so that the
	// client surely gets it.
	CutAfter
)

// Answer gives messages or subscriptions an answer of the test's choice.
type Answer struct {
	// Topic is a topic filter: it selects PUBLISH packets whose topic matches
	// it, or, with On: SUBSCRIBE, subscriptions to exactly this filter.
	Topic string
	// On is PUBLISH (also if zero) or SUBSCRIBE.
	On Type
	// Code is the reason code of the PUBACK, PUBREC or SUBACK. A message that
	// gets 0x80 or more is not passed on.
	Code byte
	// Times is how often the answer is given; 0 means always.
	Times int
	// PerMessage counts Times for each message ID by itself (the payload where
	// there is none), not for the topic.
	PerMessage bool
	// Disconnect sends the code in a DISCONNECT and closes the connection.
	Disconnect bool
}

// Options tell how a Broker behaves. The zero value is a broker without faults
// that keeps sessions in memory.
type Options struct {
	// Addr is the TCP address to listen on; a free loopback port if empty.
	Addr string
	// Seed starts the random numbers of the faults: the same seed and the same
	// packets give the same faults.
	Seed uint64
	// Logf, if set, is told what the broker does, a line per packet. It is
	// called from several goroutines.
	Logf func(format string, args ...any)

	// Limits announced in CONNACK. Zero announces nothing. A client that breaks
	// one is disconnected as the specification demands, which is a violation.
	ReceiveMaximum    uint16
	MaximumPacketSize uint32
	// MaximumQoS, if set, is 0 or 1.
	MaximumQoS        *byte
	RetainUnavailable bool
	// ServerKeepAlive is in seconds.
	ServerKeepAlive uint16

	// Credentials are the users and their passwords; any client may connect if
	// it is nil. Others are refused with 0x86.
	Credentials map[string]string
	// ConnackCodes refuse as many connections, one after another, with these
	// reason codes; later ones are accepted.
	ConnackCodes []byte

	// ForgetSessions makes every connection start a new session.
	ForgetSessions bool
	// TellNoSubscribers answers a QoS 1 or 2 message that nobody gets with
	// 0x10, as mosquitto does; otherwise with 0x00.
	TellNoSubscribers bool

	// DropEvery resets each connection (RST, the rest unread) when the client
	// has sent a number of packets drawn from this range; the packet that
	// completes the number is not processed. Zero: never.
	DropEvery Range
	// DropLimit ends the drops after that many; 0 means no limit.
	DropLimit int
	// Answers are tried in order; the first that applies and is not used up
	// answers.
	Answers []Answer
	// AckDelay is how long PUBACK, PUBREC and PUBCOMP are held back.
	AckDelay time.Duration
	// LosePuback resets the connection in place of the n-th PUBACK, counted
	// over all connections from 1. The message has been taken and passed on.
	LosePuback int
	// CutAfterPubrec closes the connection after the n-th PUBREC, CutAfterPubrel
	// resets it after the n-th PUBREL was processed, before its PUBCOMP.
	CutAfterPubrec int
	CutAfterPubrel int
	// Intercept, if set, decides about every packet of a connected client that
	// the faults above let through. It is called from several goroutines.
	Intercept func(clientID string, d Direction, p *Packet) Action
}

func (o *Options) validate() error {
	var errs []error
	if r := o.DropEvery; r != (Range{}) && (r.Min < 1 || r.Max < r.Min) {
		errs = append(errs, fmt.Errorf("option DropEvery: %d to %d is no range of positive numbers", r.Min, r.Max))
	}
	if o.MaximumQoS != nil && *o.MaximumQoS > 1 {
		errs = append(errs, fmt.Errorf("option MaximumQoS: %d, want 0 or 1", *o.MaximumQoS))
	}
	for i, a := range o.Answers {
		if a.Topic == "" || (a.On != 0 && a.On != PUBLISH && a.On != SUBSCRIBE) {
			errs = append(errs, fmt.Errorf("option Answers[%d]: needs a topic, and On PUBLISH or SUBSCRIBE", i))
		}
	}
	return errors.Join(errs...)
}
