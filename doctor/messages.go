package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// retain: a retained message reaches who subscribes later.
func (e *examiner) retain(ctx context.Context) error {
	const name = "retained"
	e.retained = true
	if _, err := e.publish(ctx, persist.Message{Topic: e.topic(name), Payload: []byte("1"), Retain: true}); err != nil {
		return err
	}
	there, err := e.isRetained(ctx)
	if err != nil {
		return err
	}
	if !there {
		e.report.add("retained.kept", Warn, "a retained message did not reach who subscribed later", "")
		return nil
	}
	e.report.add("retained.kept", OK, "a retained message reaches who subscribes later", "")
	return nil
}

func (e *examiner) isRetained(ctx context.Context) (bool, error) {
	p, err := e.open(ctx, "retained", true, 0)
	if err != nil {
		return false, err
	}
	defer p.Drop()
	short, cancel := e.within(ctx)
	defer cancel()
	if err := p.Subscribe(short, e.topic("retained"), 0); err != nil {
		return false, err
	}
	in, err := e.receive(ctx, p)
	return in != nil && in.Retain, err
}

// sharedFilter is the filter of the shared subscription.
func (e *examiner) sharedFilter(name string) string {
	return "$share/oncemq-doctor-" + e.name + "/" + e.topic(name)
}

// shared: the members of a group share messages, and one that is away finds what came
// meanwhile.
func (e *examiner) shared(ctx context.Context) error {
	const name = "shared"
	a, err := e.subscribe(ctx, name+"-a", e.sharedFilter(name))
	if err != nil {
		return err
	}
	defer func() { a.Drop() }()
	b, err := e.subscribe(ctx, name+"-b", e.sharedFilter(name))
	if err != nil {
		return err
	}
	defer b.Drop()
	const messages = 10
	for i := range messages {
		if _, err := e.publish(ctx, persist.Message{Topic: e.topic(name), Payload: []byte{'0' + byte(i)}}); err != nil {
			return err
		}
	}
	got, copies, err := e.collect(ctx, messages, a, b)
	if err != nil {
		return err
	}
	const id = "shared.shares"
	switch {
	case len(got) < messages:
		e.report.add(id, Bad, fmt.Sprintf("of %d messages to a group %d arrived", messages, len(got)), "set SubscribeConfig.Unshared", promiseGroup)
		return nil
	case copies > messages:
		e.report.add(id, Warn, fmt.Sprintf("%d messages to a group arrived as %d copies: the store's keys have to tell them apart", messages, copies),
			"give the group a store", promiseGroup)
	default:
		e.report.add(id, OK, "the members of a group share messages", "", promiseGroup)
	}
	// The other member goes for good, this one is away.
	short, cancel := e.within(ctx)
	defer cancel()
	if err := b.End(short); err != nil {
		return err
	}
	delete(e.sessions, name+"-b")
	a.Drop()
	if _, err := e.publish(ctx, persist.Message{Topic: e.topic(name), Payload: []byte("later")}); err != nil {
		return err
	}
	if a, err = e.open(ctx, name+"-a", false, keepFor); err != nil {
		return err
	}
	in, err := e.receive(ctx, a)
	if err != nil {
		return err
	}
	if in == nil {
		e.report.add("shared.kept", Warn, "what is published while all members of a group are away does not reach the group",
			"ask for receipts, so that it is sent again, or set SubscribeConfig.Unshared", promiseGroup, promiseAway)
		return nil
	}
	e.report.add("shared.kept", OK, "what is published while all members of a group are away reaches the group", "", promiseGroup, promiseAway)
	return nil
}

// collect reads from several connections until so many different messages have come,
// or nothing comes any more.
func (e *examiner) collect(ctx context.Context, want int, from ...*session.Probe) (got map[string]int, copies int, err error) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	got = make(map[string]int)
	wait := time.NewTicker(20 * time.Millisecond)
	defer wait.Stop()
	for len(got) < want {
		for _, p := range from {
			all, err := p.Received(ctx)
			if err != nil {
				return got, copies, err
			}
			for _, in := range all {
				got[in.Payload]++
				copies++
			}
		}
		if len(got) >= want {
			break
		}
		select {
		case <-wait.C:
		case <-ctx.Done():
			return got, copies, nil
		}
	}
	for _, p := range from { // what would be copies
		all, err := p.Received(ctx)
		if err != nil {
			return got, copies, err
		}
		copies += len(all)
	}
	return got, copies, nil
}

// wildcard: a filter with a wildcard matches, and its identifier comes with the
// message.
func (e *examiner) wildcard(ctx context.Context) error {
	const name = "wildcard"
	p, err := e.open(ctx, name, true, keepFor)
	if err != nil {
		return err
	}
	defer p.Drop()
	short, cancel := e.within(ctx)
	defer cancel()
	number := 0
	if e.limits.SubscriptionIDs {
		number = 7
	}
	if err := p.Subscribe(short, e.topic(name)+"/+/#", number); err != nil {
		return err
	}
	if _, err := e.publish(ctx, persist.Message{Topic: e.topic(name) + "/a/b", Payload: []byte("1")}); err != nil {
		return err
	}
	in, err := e.receive(ctx, p)
	switch {
	case err != nil:
		return err
	case in == nil:
		e.report.add("wildcard.matches", Warn, "a message did not reach who subscribed with a wildcard", "name every topic when subscribing")
	case in.SubscriptionID != int64(number):
		e.report.add("wildcard.matches", Info, "a wildcard matches, but the subscription identifier does not come with the message",
			"messages that match several subscriptions of a client are told apart by their topics")
	default:
		e.report.add("wildcard.matches", OK, "a wildcard matches, and the subscription identifier comes with the message", "")
	}
	return nil
}

// expiry: messages and sessions end when their time is over, and not before.
func (e *examiner) expiry(ctx context.Context) error {
	const name, short, long = "expiry", 1, 3600
	sub, err := e.subscribe(ctx, name, e.topic(name))
	if err != nil {
		return err
	}
	sub.Drop()
	brief, err := e.open(ctx, "brief", true, short)
	if err != nil {
		return err
	}
	brief.Drop()
	for _, m := range []persist.Message{
		{Topic: e.topic(name), Payload: []byte("short"), Expiry: short * time.Second},
		{Topic: e.topic(name), Payload: []byte("long"), Expiry: long * time.Second},
	} {
		if _, err := e.publish(ctx, m); err != nil {
			return err
		}
	}
	// Whole seconds are what MQTT has.
	over := time.NewTimer(2*short*time.Second + 200*time.Millisecond)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if sub, err = e.open(ctx, name, false, keepFor); err != nil {
		return err
	}
	defer sub.Drop()
	if !sub.Present {
		return nil // session.kept says so
	}
	late := false
	var in *session.Incoming
	for in == nil || in.Payload != "long" {
		if in, err = e.receive(ctx, sub); err != nil {
			return err
		}
		if in == nil {
			break
		}
		late = late || in.Payload == "short"
	}
	switch {
	case in == nil:
		e.report.add("message.expiry", Warn, "a message with an expiry of an hour did not arrive after two seconds", "", promiseEnqueue)
	case late:
		e.report.add("message.expiry", Warn, "a message whose expiry had passed was delivered", "")
	case in.Expiry < 0 || in.Expiry >= long:
		e.report.add("message.expiry", Info, "a message whose expiry has passed is not delivered; those who receive one are not told how long it is still good", "")
	default:
		e.report.add("message.expiry", OK, "a message whose expiry has passed is not delivered, and the time it waited is taken off", "")
	}
	if brief, err = e.open(ctx, "brief", false, short); err != nil {
		return err
	}
	defer brief.Drop()
	if brief.Present {
		e.report.add("session.expiry", Info, "a session was still there after its expiry of a second", "")
		return nil
	}
	e.report.add("session.expiry", OK, "a session ends with its expiry", "")
	return nil
}
