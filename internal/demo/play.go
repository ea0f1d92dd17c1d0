package demo

import (
	"context"
	"time"
)

const (
	// paceMessages is how many messages are enqueued at once, paceRest how long
	// the publisher rests after it.
	paceMessages = 50
	paceRest     = 20 * time.Millisecond
	// tick is how often a condition is looked at.
	tick = 10 * time.Millisecond
	// patience bounds the wait for one condition of the script. Then the demo
	// goes on without it.
	patience = 3 * time.Second
	// downtime is how long the broker, or a replica, stays dead.
	downtime = 300 * time.Millisecond
	// restful is how long nothing must move before the demo counts.
	restful = 500 * time.Millisecond
)

// play carries the script out, and returns when everything has come to rest.
func (d *demo) play(ctx context.Context) error {
	stop := d.observe(ctx)
	defer stop()
	for i, a := range d.script.lives {
		if i > 0 {
			outage := a.flow / 10
			a.flow -= outage
			if err := d.restart(ctx, outage); err != nil {
				return err
			}
		}
		if err := d.live(ctx, a, i == len(d.script.lives)-1); err != nil {
			return err
		}
	}
	d.tell(ctx, Event{Kind: EventPublished})
	return d.rest(ctx)
}

// live plays one life of the broker.
func (d *demo) live(ctx context.Context, a act, last bool) error {
	before, err := d.effects.Count(ctx)
	if err != nil {
		return err
	}
	if err := d.publish(ctx, a.flow); err != nil {
		return err
	}
	if err := d.until(ctx, func() (bool, error) {
		n, err := d.effects.Count(ctx)
		return n >= before+a.progress, err
	}); err != nil {
		return err
	}
	if a.killReplica {
		half := a.surge / 2
		a.surge -= half
		if err := d.killReplica(ctx, replicaNames[0], half); err != nil {
			return err
		}
	}
	if last {
		return d.publish(ctx, a.surge)
	}
	return d.killBroker(ctx, a.surge)
}

// killReplica kills a replica while it has effects that nobody was told of, and
// starts it again.
func (d *demo) killReplica(ctx context.Context, name string, surge int) error {
	d.broker.CloseGate()
	defer d.broker.OpenGate()
	if err := d.publish(ctx, surge); err != nil {
		return err
	}
	if err := d.until(ctx, func() (bool, error) {
		return d.effects.Any(ctx, d.broker.Outstanding(name))
	}); err != nil {
		return err
	}
	inWork := len(d.broker.Outstanding(name))
	if err := d.replicas.kill(name); err != nil {
		return err
	}
	d.broker.Cut(name, name+receiptSuffix)
	d.broker.OpenGate()
	d.result.ReplicaKills++
	d.tell(ctx, Event{
		Kind: EventReplicaKilled, Replica: name, Number: d.result.ReplicaKills, Held: inWork,
	})
	if err := pause(ctx, downtime); err != nil {
		return err
	}
	p, err := d.replicas.start(ctx, name)
	if err != nil {
		return err
	}
	if err := p.subscribed(ctx); err != nil {
		return err
	}
	d.tell(ctx, Event{Kind: EventReplicaStarted, Replica: name})
	return nil
}

// killBroker kills the broker while it holds messages that it has acknowledged
// and passed on to nobody.
func (d *demo) killBroker(ctx context.Context, surge int) error {
	d.broker.CloseGate()
	defer d.broker.OpenGate()
	if err := d.publish(ctx, surge); err != nil {
		return err
	}
	held := 0
	if err := d.until(ctx, func() (bool, error) {
		held = d.publisher.countDelivered(d.broker.Held())
		return held >= d.script.holds, nil
	}); err != nil {
		return err
	}
	if err := d.broker.Kill(); err != nil {
		return err
	}
	d.up.Store(false)
	d.result.BrokerKills++
	d.result.HeldAtKills = append(d.result.HeldAtKills, held)
	d.tell(ctx, Event{Kind: EventBrokerKilled, Number: d.result.BrokerKills, Held: held})
	return nil
}

// restart starts an empty broker after a while, in which the publisher goes on,
// and waits until the replicas have subscribed again.
func (d *demo) restart(ctx context.Context, outage int) error {
	if err := d.publish(ctx, outage); err != nil {
		return err
	}
	if err := pause(ctx, downtime); err != nil {
		return err
	}
	if err := d.broker.Start(ctx); err != nil {
		return err
	}
	d.up.Store(true)
	d.tell(ctx, Event{Kind: EventBrokerStarted, Number: d.result.BrokerKills})
	return d.until(ctx, func() (bool, error) {
		return d.broker.Subscribed() == len(replicaNames), nil
	})
}

// publish enqueues n messages at the publisher's pace.
func (d *demo) publish(ctx context.Context, n int) error {
	for n > 0 {
		batch := min(n, paceMessages)
		if err := d.publisher.enqueue(ctx, batch); err != nil {
			return err
		}
		n -= batch
		if err := pause(ctx, paceRest); err != nil {
			return err
		}
	}
	return nil
}

// rest waits until the outbox is empty and nothing waits for a replica, and that
// for a while.
func (d *demo) rest(ctx context.Context) error {
	var since time.Time
	for {
		open, err := d.publisher.open(ctx)
		if err != nil {
			return err
		}
		switch {
		case open > 0 || !d.broker.Idle():
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= restful:
			return nil
		}
		if err := d.wait(ctx, tick); err != nil {
			return err
		}
	}
}

// until waits until a condition holds, for as long as the demo has patience: the
// script goes on without it rather than to stop.
func (d *demo) until(ctx context.Context, holds func() (bool, error)) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err := d.wait(ctx, tick); err != nil {
			return err
		}
		if ok, err := holds(); ok || err != nil {
			return err
		}
	}
	return nil
}

// wait is pause, but for a replica that has failed.
func (d *demo) wait(ctx context.Context, t time.Duration) error {
	if err := d.replicas.err(); err != nil {
		return err
	}
	return pause(ctx, t)
}

func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
