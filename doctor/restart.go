package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// restartPatience is how long a broker may take to come back.
const restartPatience = time.Minute

// receiptsHelp is what to do about a broker that forgets.
const receiptsHelp = "ask for receipts, which have it sent again, and have the broker save its state (mosquitto: persistence true, a short autosave_interval)"

// restart: what the broker keeps across a restart.
func (e *examiner) restart(ctx context.Context) error {
	const plain, shared = "restart", "restart-shared"
	for name, filter := range map[string]string{plain: e.topic(plain), shared: e.sharedFilter(shared)} {
		if name == shared && !e.limits.SharedAvailable {
			continue
		}
		p, err := e.subscribe(ctx, name, filter)
		if err != nil {
			return err
		}
		p.Drop()
	}
	if _, err := e.publish(ctx, persist.Message{Topic: e.topic(plain), Payload: []byte("kept")}); err != nil {
		return err
	}
	began := time.Now()
	if e.limits.MaximumQoS == 2 {
		known, present, err := e.interrupted(ctx, "restart-pub", e.restarted)
		if err != nil {
			return err
		}
		e.survived("restart.qos2", known && present, "an exchange of QoS 2 whose session began with a clean start", promiseRestart)
	} else if err := e.restarted(ctx); err != nil {
		return err
	}
	e.report.add("restart.done", Info, fmt.Sprintf("the broker was back %s after it was told to restart", rounded(time.Since(began))), "")
	return e.step(ctx, func(ctx context.Context) error { return e.remembered(ctx, plain, shared) })
}

// remembered looks at what the broker has kept.
func (e *examiner) remembered(ctx context.Context, plain, shared string) error {
	p, err := e.open(ctx, plain, false, keepFor)
	if err != nil {
		return err
	}
	defer p.Drop()
	e.survived("restart.session", p.Present, "a session", promiseRestart)
	var in *session.Incoming
	if p.Present {
		if in, err = e.receive(ctx, p); err != nil {
			return err
		}
	}
	e.survived("restart.queued", in != nil, "a message that was acknowledged and waits for a subscriber", promiseRestart)
	if e.limits.RetainAvailable && e.report.Finding("retained.kept") != nil {
		there, err := e.isRetained(ctx)
		if err != nil {
			return err
		}
		e.survived("restart.retained", there, "a retained message", promiseRestart)
	}
	if !e.limits.SharedAvailable {
		return nil
	}
	// Before a member is back.
	if _, err := e.publish(ctx, persist.Message{Topic: e.topic(shared), Payload: []byte("1")}); err != nil {
		return err
	}
	member, err := e.open(ctx, shared, false, keepFor)
	if err != nil {
		return err
	}
	defer member.Drop()
	in = nil
	if member.Present {
		if in, err = e.receive(ctx, member); err != nil {
			return err
		}
	}
	e.survived("restart.shared", in != nil, "the subscription of a group", promiseRestart, promiseGroup)
	return nil
}

func (e *examiner) survived(id string, yes bool, what string, promises ...string) {
	if yes {
		e.report.add(id, OK, what+" outlives a restart", "", promises...)
		return
	}
	e.report.add(id, Warn, what+" does not outlive a restart", receiptsHelp, promises...)
}

// restarted has the broker restarted, and waits until it takes connections.
func (e *examiner) restarted(ctx context.Context) error {
	e.pub.Drop()
	if err := e.cfg.Restart(ctx); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		p, err := e.open(ctx, "back", true, 0)
		if err == nil {
			return p.End(ctx)
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("the broker did not come back within %s: %w", restartPatience, err)
		}
	}
}
