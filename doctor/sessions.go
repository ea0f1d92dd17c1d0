package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// throughput measures round trips, and says what they allow.
func (e *examiner) throughput(ctx context.Context) error {
	const rounds = 20
	trips := make([]time.Duration, 0, rounds)
	what := "PUBLISH to PUBACK"
	for range rounds {
		began := time.Now()
		var err error
		if e.limits.MaximumQoS == 0 {
			what = "PINGREQ to PINGRESP"
			err = e.ping(ctx)
		} else {
			_, err = e.publish(ctx, persist.Message{Topic: e.topic("round-trip"), Payload: []byte("?")})
		}
		if err != nil {
			return err
		}
		trips = append(trips, time.Since(began))
	}
	slices.Sort(trips)
	trip := trips[rounds/2]
	window := min(e.limits.ReceiveMaximum, e.cfg.Broker.Relay.Window)
	e.report.add("broker.throughput", Info, fmt.Sprintf(
		"%s from %s; %d in flight allow about %s messages a second on a lane, if nothing else is the limit",
		rounded(trip), what, window, thousands(float64(window)/trip.Seconds())), "")
	return nil
}

func (e *examiner) ping(ctx context.Context) error {
	ctx, cancel := e.within(ctx)
	defer cancel()
	return e.pub.Ping(ctx)
}

// thousands is a number with two digits that count, and commas.
func thousands(f float64) string {
	n := int64(f)
	unit := int64(1)
	for n/unit >= 100 {
		unit *= 10
	}
	text := fmt.Sprint(n / unit * unit)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// session: a session outlives its connection, gets what comes meanwhile, and gets
// again what was not acknowledged.
func (e *examiner) session(ctx context.Context) error {
	const name = "session"
	p, err := e.subscribe(ctx, name, e.topic(name))
	if err != nil {
		return err
	}
	p.Drop()
	if _, err := e.publish(ctx, persist.Message{Topic: e.topic(name), Payload: []byte("1")}); err != nil {
		return err
	}
	if p, err = e.open(ctx, name, false, keepFor); err != nil {
		return err
	}
	defer func() { p.Drop() }()
	if !p.Present {
		e.report.add("session.kept", Bad, "a session is forgotten when its connection ends", "let the broker keep sessions",
			promiseAway, promiseExactly)
		return nil
	}
	e.report.add("session.kept", OK, "a session outlives its connection", "", promiseAway, promiseExactly)
	in, err := e.receive(ctx, p)
	if err != nil {
		return err
	}
	if in == nil {
		e.report.add("session.queued", Bad, "what is published while a subscriber is away does not reach it",
			"let the broker queue messages for sessions that are away", promiseAway)
		return nil
	}
	e.report.add("session.queued", OK, "what is published while a subscriber is away reaches it", "", promiseAway)
	p.Drop() // without an acknowledgement
	if p, err = e.open(ctx, name, false, keepFor); err != nil {
		return err
	}
	if in, err = e.receive(ctx, p); err != nil {
		return err
	}
	if in == nil {
		e.report.add("session.redelivered", Bad, "a message that was not acknowledged does not come again", "", promiseAway, promiseGroup)
		return nil
	}
	e.report.add("session.redelivered", OK, "a message that was not acknowledged comes again", "", promiseAway, promiseGroup)
	return nil
}

// takeover: a second connection with a client ID ends the first, which keeps a relay
// that was paused from sending.
func (e *examiner) takeover(ctx context.Context) error {
	const name = "takeover"
	first, err := e.open(ctx, name, true, keepFor)
	if err != nil {
		return err
	}
	defer first.Drop()
	second, err := e.open(ctx, name, false, keepFor)
	if err != nil {
		return err
	}
	defer second.Drop()
	short, cancel := e.within(ctx)
	defer cancel()
	if first.Ping(short) == nil {
		e.report.add("session.takeover", Bad, "two connections have one client ID: a relay that was paused goes on sending beside its successor",
			"oncemq rests on [MQTT-3.1.4-3]; use a broker that keeps to it", promiseRelays)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e.report.add("session.takeover", OK, "a new connection ends the old one of its client ID", "", promiseRelays)
	return nil
}

// exactly: an exchange of QoS 2 goes on after the connection was lost.
func (e *examiner) exactly(ctx context.Context) error {
	const name = "qos2"
	sub, err := e.subscribe(ctx, name, e.topic(name))
	if err != nil {
		return err
	}
	defer sub.Drop()
	known, present, err := e.interrupted(ctx, name+"-pub", func(context.Context) error { return nil })
	if err != nil {
		return err
	}
	if _, err := e.publish(ctx, persist.Message{Topic: e.topic(name), Payload: []byte("end"), QoS: 2}); err != nil {
		return err
	}
	copies := 0
	for {
		in, err := e.receive(ctx, sub)
		if err != nil {
			return err
		}
		if in == nil || in.Payload == "end" {
			break
		}
		copies++
		if err := sub.Ack(ctx, in); err != nil {
			return err
		}
	}
	const id = "qos2.resumed"
	switch {
	case !present || !known:
		e.report.add(id, Bad, "an exchange of QoS 2 is forgotten when its connection ends, and begins anew", "let the broker keep sessions", promiseExactly)
	case copies > 1:
		e.report.add(id, Bad, fmt.Sprintf("a message of QoS 2 that was sent again after a lost connection arrived %d times", copies),
			"use QoS 1 and groups, which process a message once", promiseExactly)
	case copies == 0:
		e.report.add(id, Bad, "a message of QoS 2 whose connection was lost did not arrive", "", promiseExactly, promiseEnqueue)
	default:
		e.report.add(id, OK, "an exchange of QoS 2 goes on after a lost connection, and the message arrives once", "", promiseExactly)
	}
	return nil
}

// interrupted begins an exchange of QoS 2, loses the connection before PUBREC was
// seen, and ends the exchange on another: known tells whether the broker knew it,
// present whether it knew the session.
func (e *examiner) interrupted(ctx context.Context, name string, between func(context.Context) error) (known, present bool, err error) {
	// With a clean start, as a relay begins on a lane in which nothing is in flight.
	m := persist.Message{Topic: e.topic("qos2"), Payload: []byte("once"), QoS: 2}
	p, err := e.open(ctx, name, true, keepFor)
	if err != nil {
		return false, false, err
	}
	defer func() { p.Drop() }()
	short, cancel := e.within(ctx)
	defer cancel()
	if err := p.SendPublish(short, &m, 1, false); err != nil {
		return false, false, err
	}
	// The broker has it when PUBREC is here; the one who sends is meant not to have
	// seen it.
	if _, err := p.AwaitPubrec(short, 1); err != nil {
		return false, false, err
	}
	p.Drop()
	if err := between(ctx); err != nil {
		return false, false, err
	}
	if p, err = e.open(ctx, name, false, keepFor); err != nil {
		return false, false, err
	}
	present = p.Present
	again, cancel := e.within(ctx)
	defer cancel()
	if err := p.SendPublish(again, &m, 1, present); err != nil {
		return false, false, err
	}
	if _, err := p.AwaitPubrec(again, 1); err != nil {
		return false, false, err
	}
	code, err := p.Release(again, 1)
	return code == 0, present, err
}
