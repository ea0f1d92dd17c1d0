package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// publication is one run of pub.
//
// Three goroutines: one reads payloads, one stores them, and run watches over
// both, over delivery and over the clock. run joins the second; the first may
// hang in a read of stdin that nothing can end, and ends with the process then.
type publication struct {
	sh        *shell
	o         *pubOptions
	store     persist.Store
	client    *autopaho.Client
	template  autopaho.Message
	notBefore time.Time // zero for at once
	ledger    *ledger
	trouble   *trouble
	gather    *gather
	line      int // of standard input, read last; with --ndjson

	leftovers bool // messages of earlier runs were in the outbox at the start
}

func (p *publication) run(ctx context.Context, cfg autopaho.Config, source feed) error {
	var out *output
	if p.o.json {
		out = newOutput(p.sh.stdout)
		out.patience = p.o.readerPatience()
	}
	receipt := p.template.Receipt || p.template.Topic != "" && cfg.Policies.For(p.template.Topic).Receipt
	p.ledger = newLedger(out, receipt)
	cfg.OnEvent = func(e autopaho.Event) {
		p.ledger.event(e)
		p.trouble.event(e)
	}
	err := p.publish(ctx, cfg, source)
	if out != nil {
		if werr := out.close(ctx); err == nil && werr != nil {
			err = &exitError{code: exitFailed, text: "write to standard output", err: werr}
		}
	}
	return p.summary(err)
}

// publish stores, delivers and closes the client.
func (p *publication) publish(ctx context.Context, cfg autopaho.Config, source feed) error {
	stats, err := p.store.Stats(ctx)
	if err != nil {
		return err
	}
	p.leftovers = stats.Pending > 0
	if p.client, err = autopaho.New(ctx, cfg); err != nil {
		return err
	}
	bar := startProgress(p.sh, p.ledger)
	err = p.watch(ctx, source)
	bar.stop()

	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	closed := p.client.Close(patience)
	if err == nil && closed != nil && patience.Err() == nil {
		err = closed
	}
	return p.verdict(ctx, err)
}

// watch runs reading and storing, and waits for delivery.
func (p *publication) watch(ctx context.Context, source feed) error {
	p.gather = newGather()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	go func() { p.gather.end(source(reading, p.gather.put)) }()

	stored := make(chan error, 1)
	go func() { stored <- p.storeAll(reading) }()

	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var (
		result   error
		interest = ctx.Done() // nil once it was heeded
		inputEnd bool
		deadline <-chan time.Time
		check    bool
	)
	for {
		select {
		case err := <-stored:
			inputEnd, check = true, true
			stored = nil
			if err != nil || result != nil || p.o.noWait {
				return errors.Join(result, err)
			}
			if p.o.timeout > 0 {
				t := time.NewTimer(p.o.timeout)
				defer t.Stop()
				deadline = t.C
			}
		case <-interest:
			interest = nil
			if inputEnd {
				return nil
			}
			result = interrupted(ctx)
			stopReading()
			p.gather.stop()
		case <-deadline:
			return nil
		case <-p.trouble.wake:
			err := p.client.Err()
			if err != nil && inputEnd {
				return err
			}
			if err != nil && result == nil {
				result = err
				stopReading()
				p.gather.stop()
			}
		case <-p.ledger.changed:
			check = inputEnd
		case <-tick.C:
			if err := p.ledger.lookup(ctx, p.store); err != nil && ctx.Err() == nil {
				p.sh.log.warn("%s", oneLine(err))
			}
			check = inputEnd
		}
		if !check {
			continue
		}
		check = false
		if done, err := p.delivered(ctx); done || err != nil {
			return err
		}
	}
}

// watchInterval is how often messages are looked up that another process may
// have delivered.
const watchInterval = 200 * time.Millisecond

// storeAll stores what the source hands out, batch by batch, until it ends. What
// was read when ctx ends is still stored.
func (p *publication) storeAll(ctx context.Context) error {
	for {
		payloads := p.gather.take()
		if payloads == nil {
			return nil
		}
		msgs := make([]autopaho.Message, 0, len(payloads))
		before := p.line
		var bad error // of a line, which ends the run after what came before it is stored
		for _, payload := range payloads {
			m := p.template
			if !p.notBefore.IsZero() {
				m.Delay = autopaho.DelayUntil(p.notBefore)
			}
			if p.o.payload.ndjson {
				p.line++
				if bad = readObject(payload, &m); bad != nil {
					bad = p.badLine(p.line, bad)
					break
				}
			} else {
				m.Payload = payload
			}
			msgs = append(msgs, m)
		}
		err := bad
		if len(msgs) > 0 {
			if stored := p.storeBatch(ctx, msgs, before); stored != nil {
				err = stored // of an earlier line
			}
		}
		if err != nil {
			p.gather.stop()
			return err
		}
	}
}

// badLine is the error of a line of standard input.
func (p *publication) badLine(number int, err error) error {
	return &exitError{code: exitFailed, err: fmt.Errorf("line %d of standard input: %w; this line and what follows were not published", number, err)}
}

// storeBatch stores a batch. If the outbox has a limit and not room for all, the
// batch goes in in parts, in its order, as delivery makes room; and so does one of
// which a message is refused, up to that. lines are those before it.
func (p *publication) storeBatch(ctx context.Context, msgs []autopaho.Message, lines int) error {
	err := p.enqueue(ctx, msgs)
	full := errors.Is(err, persist.ErrOutboxFull)
	refused := p.o.payload.ndjson && errors.Is(err, autopaho.ErrInvalidMessage)
	switch {
	case (full || refused) && len(msgs) > 1:
		half := len(msgs) / 2
		if err := p.storeBatch(ctx, msgs[:half], lines); err != nil {
			return err
		}
		return p.storeBatch(ctx, msgs[half:], lines+half)
	case refused:
		return p.badLine(lines+1, err)
	case full && !p.o.noWait && !hopeless(err):
		err = p.awaitRoom(ctx, msgs, err)
	}
	if err != nil {
		return fmt.Errorf("%d message%s not stored: %w", len(msgs), plural(len(msgs)), err)
	}
	return nil
}

func (p *publication) enqueue(ctx context.Context, msgs []autopaho.Message) error {
	if err := p.ledger.room(ctx); err != nil {
		return err
	}
	p.ledger.begin()
	q, err := p.client.Enqueue(context.WithoutCancel(ctx), msgs...)
	p.ledger.stored(q, msgs)
	return err
}

// roomInterval is how often a full outbox is tried again.
const roomInterval = 20 * time.Millisecond

// hopeless tells whether an empty outbox would be full, too.
func hopeless(err error) bool {
	var full *persist.FullError
	return errors.As(err, &full) && full.Wanted > full.Most
}

// awaitRoom tries to store a message until there is room, for as long as
// delivery may take. err is why there was none.
func (p *publication) awaitRoom(ctx context.Context, msgs []autopaho.Message, err error) error {
	if p.o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.o.timeout)
		defer cancel()
	}
	again := time.NewTicker(roomInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
		if err = p.enqueue(ctx, msgs); !errors.Is(err, persist.ErrOutboxFull) {
			return err
		}
	}
}

// delivered tells whether nothing is left to wait for.
func (p *publication) delivered(ctx context.Context) (bool, error) {
	_, open, untracked := p.ledger.tally()
	switch {
	case open > 0:
		return false, nil
	case untracked == 0 && !p.leftovers:
		return true, nil
	}
	done, err := p.ledger.clear(ctx, p.store)
	if !done || err != nil {
		return false, err
	}
	return true, p.ledger.reconcile(ctx, p.store)
}

// verdict makes the error that decides the exit code: of what stopped the run,
// of messages that failed, of those that were not delivered in time, in that
// order. A signal comes last, since it says least.
func (p *publication) verdict(ctx context.Context, err error) error {
	if ended, readErr := p.gather.result(); err == nil && ended && readErr != nil {
		err = &exitError{code: exitFailed, err: readErr}
	}
	for _, f := range p.ledger.failures() {
		p.sh.log.failure(oneLine(f))
	}
	counts, open, _ := p.ledger.tally()
	failed := counts.failed + counts.expired + counts.dropped
	if more := failed - firstFailures; more > 0 {
		p.sh.log.failure(fmt.Sprintf("%d more messages failed, expired or were dropped; oncemq outbox list --state failed shows them", more))
	}
	left := p.left(ctx, open)
	var signal signalError
	switch bySignal := errors.As(err, &signal); {
	case err != nil && !bySignal:
		if left != "" {
			err = &exitError{code: exitCode(err), text: oneLine(err) + "; " + left}
		}
		return err
	case failed > 0:
		if left != "" {
			p.sh.log.failure(left)
		}
		if p.ledger.wasRefused() {
			return &exitError{code: exitRefused}
		}
		return &exitError{code: exitFailed}
	case left != "":
		return &exitError{code: exitStored, text: left}
	}
	return err
}

// left says in words what this run leaves undelivered; empty if nothing.
func (p *publication) left(ctx context.Context, open int) string {
	n := p.waiting(ctx, open)
	if n == 0 {
		return ""
	}
	verb := "s are"
	if n == 1 {
		verb = " is"
	}
	text := fmt.Sprintf("%d message%s stored and not delivered yet; oncemq relay or the next pub with this store delivers what is there", n, verb)
	if cause := p.trouble.connecting(); cause != nil {
		text += "; last: " + oneLine(cause)
	}
	return text
}

// waiting is how many messages this run leaves undelivered, of its own and of
// earlier ones.
func (p *publication) waiting(ctx context.Context, open int) int64 {
	if p.o.noWait {
		return 0
	}
	_, _, untracked := p.ledger.tally()
	if open == 0 && untracked == 0 && !p.leftovers {
		return 0
	}
	clear, err := p.ledger.clear(context.WithoutCancel(ctx), p.store)
	if err == nil && clear && open == 0 {
		return 0
	}
	stats, err := p.store.Stats(context.WithoutCancel(ctx))
	if err != nil {
		return int64(max(open, 1))
	}
	n := stats.Pending
	if p.ledger.receipt {
		n += stats.Delivered
	}
	return max(n, int64(open))
}

// summary prints the error and, after pub -l and --ndjson, the last line: the numbers.
func (p *publication) summary(err error) error {
	if !p.o.payload.many() {
		return err
	}
	code := exitDone
	if err != nil {
		code = p.sh.finish(err)
	}
	c, _, _ := p.ledger.tally()
	p.sh.log.plain(c.String())
	if code == exitDone {
		return nil
	}
	return &exitError{code: code}
}
