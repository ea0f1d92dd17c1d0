package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// published is what became of one publisher's messages.
type published struct {
	publisher uint32
	// attempted is how many numbers were given out; skipped are those that were not
	// used, failed those of messages that were refused, or of which nobody knows,
	// undelivered those of messages that wait in the store.
	attempted   int64
	skipped     map[uint64]struct{}
	failed      map[uint64]struct{}
	undelivered map[uint64]struct{}
}

// RunPublish publishes. The error is why a run could not begin, or what ended it; the
// result then has what was measured until then. That the context ends is no error.
func RunPublish(ctx context.Context, cfg Config) (res Result, err error) {
	caller := ctx
	r, ctx, err := begin(ctx, &cfg, true)
	if err != nil {
		return res, err
	}
	defer r.fail(nil)
	res = r.result("pub")
	p, err := r.publishers(ctx)
	if err != nil {
		_ = r.close(false) // the error is why
		return res, err
	}
	r.clock = newClock()
	stop := r.observe()
	p.run(ctx)
	stop()
	for _, one := range p.all {
		res.count(one)
	}
	res.Phases = p.phases(0)
	err = r.end(caller, ctx, &res)
	_ = r.close(res.waited()) // what was sent is counted
	return res, err
}

func (r *Result) count(p published) {
	r.Failed += int64(len(p.failed))
	r.Sent += p.attempted - int64(len(p.failed)+len(p.skipped))
	r.Undelivered += int64(len(p.undelivered))
}

// publishers are the publishers of a run.
type publishers struct {
	r       *run
	prefix  string             // of the topics
	clients []*autopaho.Client // one for each, or one for all
	stored  *series            // nil without a store
	done    *series
	all     []published
}

// publishers connects.
func (r *run) publishers(ctx context.Context) (*publishers, error) {
	p := &publishers{r: r, prefix: r.cfg.Topic, done: newSeries(&r.clock), all: make([]published, r.cfg.Clients)}
	warm := autopaho.Message{Topic: r.cfg.Topic + "/warm-up", QoS: r.cfg.QoS}
	if r.cfg.Store != nil {
		p.stored = newSeries(&r.clock)
		// First without the store: nothing is to wait there if there is no broker.
		if err := r.reach(ctx, warm); err != nil {
			return nil, err
		}
		c, err := r.client(ctx, "pub", true)
		if err != nil {
			return nil, err
		}
		p.clients = []*autopaho.Client{c}
		return p, r.connecting(ctx, "publish", func(ctx context.Context) error {
			q, err := c.Enqueue(ctx, warm)
			if err == nil {
				_, err = q.Wait(ctx)
			}
			return err
		})
	}
	for i := range r.cfg.Clients {
		if err := r.apart(ctx, i); err != nil {
			return nil, err
		}
		c, err := r.client(ctx, fmt.Sprintf("pub%d", i), false)
		if err != nil {
			return nil, err
		}
		p.clients = append(p.clients, c)
		err = r.connecting(ctx, "publish", func(ctx context.Context) error {
			_, err := c.Publish(ctx, warm)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// reach publishes a message, and forgets the connection.
func (r *run) reach(ctx context.Context, m autopaho.Message) (err error) {
	cfg := r.clientConfig("reach")
	c, err := autopaho.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		err = errors.Join(err, c.Close(end))
	}()
	return r.connecting(ctx, "publish", func(ctx context.Context) error {
		_, err := c.Publish(ctx, m)
		return err
	})
}

// run publishes until all are done.
func (p *publishers) run(ctx context.Context) {
	p.r.show("delivered", p.done)
	var wg sync.WaitGroup
	for i := range p.r.cfg.Clients {
		wg.Go(func() {
			if p.stored != nil {
				p.all[i] = p.enqueue(ctx, i)
			} else {
				p.all[i] = p.publish(ctx, i)
			}
		})
	}
	wg.Wait()
}

func (p *publishers) phases(from time.Duration) []Phase {
	var all []Phase
	if p.stored != nil {
		all = append(all, p.stored.phase("stored", from))
	}
	return append(all, p.done.phase("delivered", from))
}

func (p *publishers) topic(i int) string { return fmt.Sprintf("%s/%d", p.prefix, i) }

// batch is what one Enqueue has accepted.
type batch struct {
	enqueued *autopaho.Enqueued
	first    uint64
	due      []time.Duration
}

// batchesAhead is how many batches of a publisher wait for the broker at a time: enough
// to keep the relay busy, and few enough for the outbox not to grow.
const batchesAhead = 16

// enqueue is a publisher with a store. Messages are due, are stored together with what
// else is due, and are delivered: the latency of each is measured until its whole batch
// is.
func (p *publishers) enqueue(ctx context.Context, i int) published {
	out := published{publisher: uint32(i), failed: make(map[uint64]struct{}), undelivered: make(map[uint64]struct{})}
	cfg, clock := p.r.cfg, &p.r.clock
	client := p.clients[0]
	batches := make(chan batch, batchesAhead)
	waiting, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	// Whoever ends the run early does not wait long, whatever it is that waits then.
	stopTimer := context.AfterFunc(ctx, func() { time.AfterFunc(min(cfg.Settle, interruptedSettle), giveUp) })
	defer stopTimer()
	var collector sync.WaitGroup
	late := make(map[uint64]struct{}) // the collector's, as out.undelivered is
	collector.Go(func() { p.collect(waiting, batches, late, out.undelivered) })

	stored := p.stored.recorder()
	msgs := make([]autopaho.Message, 0, cfg.Batch)
	topic := p.topic(i)
	pace := cfg.pace(i, clock.since())
	for n := int64(0); ctx.Err() == nil; {
		now := clock.since()
		if pace.over(n, cfg.Count > 0, now) {
			break
		}
		if wait := pace.at(n, now) - now; wait > 0 {
			_ = pause(ctx, wait) // the loop ends with the context
			continue
		}
		k := pace.due(n, now, cfg)
		msgs = msgs[:0]
		due := make([]time.Duration, 0, k)
		arena := make([]byte, k*cfg.Size) // not used again: the store in memory keeps it
		for range k {
			at := pace.at(n, now)
			body := arena[:cfg.Size:cfg.Size]
			arena = arena[cfg.Size:]
			h := header{p.r.id, uint32(i), uint64(n), clock.nanos(at)}
			h.put(body)
			msgs = append(msgs, autopaho.Message{Topic: topic, QoS: cfg.QoS, Payload: body})
			due = append(due, at)
			n++
		}
		first := uint64(n) - uint64(len(msgs))
		out.attempted = n
		q, err := client.Enqueue(ctx, msgs...)
		now = clock.since()
		if err != nil {
			for k := range msgs {
				out.failed[first+uint64(k)] = struct{}{}
			}
			p.failed(ctx, client)
			continue
		}
		for _, at := range due {
			stored.record(now, now-at, 1)
		}
		b := batch{q, first, due}
		if !p.hand(ctx, batches, b, pace.until) {
			if ctx.Err() == nil {
				giveUp() // it has waited for as long as there is to wait
			}
			batches <- b // the collector gives up, and takes all
			break
		}
	}
	stored.flush()
	close(batches)
	timer := time.AfterFunc(cfg.Settle, giveUp)
	collector.Wait()
	timer.Stop()
	for seq := range late {
		out.failed[seq] = struct{}{}
	}
	return out
}

// hand waits until the collector has room for a batch. It does so in vain if the run's
// context ends, or nothing has been delivered for the time to settle: since it began to
// wait, and since the end of the run by time if it has one, for a broker may come back
// before that.
func (p *publishers) hand(ctx context.Context, batches chan<- batch, b batch, until time.Duration) bool {
	select {
	case batches <- b:
		return true
	default:
	}
	settle, clock := p.r.cfg.Settle, &p.r.clock
	look := time.NewTicker(max(settle/20, time.Millisecond))
	defer look.Stop()
	last, ended := clock.since(), p.ended()
	for {
		select {
		case batches <- b:
			return true
		case <-ctx.Done():
			return false
		case <-look.C:
			now := clock.since()
			if n := p.ended(); n != ended {
				last, ended = now, n
			}
			if now-max(last, until) >= settle {
				return false
			}
		}
	}
}

// ended is how many messages of all publishers the relay is done with.
func (p *publishers) ended() uint64 {
	c := p.clients[0].Counters()
	return c.Delivered + c.Failed
}

// collect waits for batches to be delivered. It adds the messages that were not to
// undelivered, and those that the broker refused to failed.
func (p *publishers) collect(ctx context.Context, batches <-chan batch, failed, undelivered map[uint64]struct{}) {
	rec := p.done.recorder()
	defer rec.flush()
	for b := range batches {
		results, err := b.enqueued.Wait(ctx)
		now := p.r.clock.since()
		for k := range results {
			switch {
			case results[k].Err() != nil:
				failed[b.first+uint64(k)] = struct{}{}
			case results[k].State == persist.StatePending:
				undelivered[b.first+uint64(k)] = struct{}{}
			default:
				rec.record(now, now-b.due[k], 1)
			}
		}
		if err != nil && ctx.Err() == nil {
			p.r.fail(err) // the relay has ended
		}
	}
}

// failed waits a little after an error, and ends the run if there will be no connection
// any more.
func (p *publishers) failed(ctx context.Context, client *autopaho.Client) {
	if err := client.Err(); err != nil {
		p.r.fail(err)
		return
	}
	_ = pause(ctx, 100*time.Millisecond) // the caller looks at the context
}

// publish is a publisher without a store: several goroutines, each of which waits for
// the broker's answer.
func (p *publishers) publish(ctx context.Context, i int) published {
	out := published{publisher: uint32(i), skipped: make(map[uint64]struct{}), failed: make(map[uint64]struct{})}
	cfg, clock := p.r.cfg, &p.r.clock
	client, topic := p.clients[i], p.topic(i)
	pace := cfg.pace(i, clock.since())
	var next, answered atomic.Int64
	var mu sync.Mutex // guards out.skipped and out.failed
	var wg sync.WaitGroup
	// What is under way when the time is over is waited for.
	calls, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	stopTimer := context.AfterFunc(ctx, func() { time.AfterFunc(interruptedSettle, giveUp) })
	defer stopTimer()
	for range cfg.InFlight {
		wg.Go(func() {
			rec := p.done.recorder()
			defer rec.flush()
			body := make([]byte, cfg.Size)
			for ctx.Err() == nil {
				n := next.Add(1) - 1
				now := clock.since()
				over := pace.over(n, cfg.Count > 0, now)
				at := pace.at(n, now)
				if !over && at > now {
					over = pause(ctx, at-now) != nil
				}
				if over {
					mu.Lock()
					out.skipped[uint64(n)] = struct{}{}
					mu.Unlock()
					return
				}
				h := header{p.r.id, uint32(i), uint64(n), clock.nanos(at)}
				h.put(body)
				before := answered.Load()
				call, cancel := context.WithTimeout(calls, cfg.Settle)
				_, err := client.Publish(call, autopaho.Message{Topic: topic, QoS: cfg.QoS, Payload: body})
				cancel()
				now = clock.since()
				if err == nil {
					answered.Add(1)
					rec.record(now, now-at, 1)
					continue
				}
				mu.Lock()
				out.failed[uint64(n)] = struct{}{}
				mu.Unlock()
				if cfg.Duration == 0 && errors.Is(err, context.DeadlineExceeded) && answered.Load() == before {
					return // the broker does not answer, and no time ends the run
				}
				body = make([]byte, cfg.Size) // the old one may be on its way
				p.failed(ctx, client)
			}
		})
	}
	wg.Wait()
	out.attempted = next.Load()
	return out
}
