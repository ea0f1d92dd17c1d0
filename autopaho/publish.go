package autopaho

import (
	"context"
	"fmt"
	"sync"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// publishQueue bounds how many messages of Publish wait for a connection or an
// answer.
const publishQueue = 1024

// Publish sends a message with MQTT's own promise and nothing more: it is not
// stored, and if the process, or a broker without a session, ends before the
// answer comes, nobody knows what became of it. It waits for a connection and,
// at QoS 1 and 2, for the broker's answer, both within the context.
//
// The error wraps ErrInvalidMessage, the context's error (the message may yet
// be delivered, so that its payload and properties must not be changed then),
// ErrRefused, ErrClosed, or is a *DeliveryError with the broker's reason code.
func (c *Client) Publish(ctx context.Context, m Message) (Result, error) {
	p := m
	if p.ID != "" || len(p.Properties.User) > 0 {
		identify(&p)
	}
	p.Idempotent, p.Receipt = false, false
	if err := validate(&p, c.cfg.MaxPayload); err != nil {
		return Result{}, fmt.Errorf("publish: %w: %w", ErrInvalidMessage, err)
	}
	if err := c.begin(); err != nil {
		return Result{}, fmt.Errorf("publish: %w", err)
	}
	defer c.calls.Done()
	pub, err := c.ensurePublisher()
	if err != nil {
		return Result{}, fmt.Errorf("publish: %w", err)
	}
	if c.tracing == nil {
		return pub.send(ctx, &p)
	}
	span := c.tracing.publish(ctx, &p)
	r, err := pub.send(ctx, &p)
	endSpan(span, err)
	return r, err
}

// publisher is the link of Publish and of receipts. Its session is of no use to
// another process, so it has a client ID of its own beside the subscriptions'.
type publisher struct {
	client *Client
	link   *session.Link
	board  *connBoard
	room   chan struct{} // counts what waits or is in flight

	mu      sync.Mutex
	queue   []*session.Outgoing
	pending map[*session.Outgoing]pending
}

// pending is a message whose answer is awaited.
type pending struct {
	tell func(session.Completion) // must not block
	room bool                     // it takes one of the places in publishQueue
}

// ensurePublisher starts the link at the first use.
func (c *Client) ensurePublisher() (*publisher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.publisher != nil {
		return c.publisher, nil
	}
	p := &publisher{
		client: c, room: make(chan struct{}, publishQueue),
		pending: make(map[*session.Outgoing]pending),
	}
	cfg := c.sessionConfig(c.cfg.ClientID + "-pub")
	cfg.CleanStart = true
	cfg.Engine.Source = p
	cfg.Engine.Completed = p.completed
	p.board = c.follow(&cfg)
	p.board.role = RolePublisher
	link, err := session.Start(cfg)
	if err != nil {
		return nil, err
	}
	p.link = link
	p.board.started(link)
	c.publisher = p
	return p, nil
}

// Take gives the engine what to send.
func (p *publisher) Take(dst []*session.Outgoing, limit int) []*session.Outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(limit, len(p.queue))
	dst = append(dst, p.queue[:n]...)
	clear(p.queue[:n])
	p.queue = p.queue[n:]
	return dst
}

func (p *publisher) completed(done []session.Completion) {
	for _, c := range done {
		p.mu.Lock()
		w := p.pending[c.Out]
		delete(p.pending, c.Out)
		p.mu.Unlock()
		if w.room {
			<-p.room
		}
		if w.tell != nil {
			w.tell(c)
		}
	}
}

// put queues a message; tell is called with the answer, and must not block.
func (p *publisher) put(ctx context.Context, m *persist.Message, tell func(session.Completion)) (*session.Outgoing, error) {
	select {
	case p.room <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.link.Done():
		return nil, p.link.Err()
	case <-p.client.closing:
		return nil, ErrClosed
	}
	o := &session.Outgoing{Message: m}
	p.add(o, pending{tell: tell, room: true})
	return o, nil
}

// enqueue is put without a bound of its own, for receipts.
func (p *publisher) enqueue(m *persist.Message, tell func(session.Completion)) {
	p.add(&session.Outgoing{Message: m}, pending{tell: tell})
}

func (p *publisher) add(o *session.Outgoing, w pending) {
	p.mu.Lock()
	p.pending[o] = w
	p.queue = append(p.queue, o)
	p.mu.Unlock()
	p.link.Engine().Wake()
}

// withdraw takes a message back; it is false if the engine has it already.
func (p *publisher) withdraw(o *session.Outgoing) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.queue {
		if w == o {
			p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
			delete(p.pending, o)
			<-p.room
			return true
		}
	}
	return false
}

// forget is for a message whose answer nobody waits for any more.
func (p *publisher) forget(o *session.Outgoing) {
	if p.withdraw(o) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.pending[o]; ok {
		w.tell = nil
		p.pending[o] = w
	}
}

func (p *publisher) send(ctx context.Context, m *persist.Message) (Result, error) {
	answer := make(chan session.Completion, 1)
	o, err := p.put(ctx, m, func(c session.Completion) { answer <- c })
	if err != nil {
		return Result{ID: m.ID}, fmt.Errorf("publish: %w", err)
	}
	select {
	case c := <-answer:
		return answered(m, &c)
	case <-ctx.Done():
		p.forget(o)
		return Result{ID: m.ID}, fmt.Errorf("publish: %w", ctx.Err())
	case <-p.link.Done():
		return Result{ID: m.ID}, fmt.Errorf("publish: %w", p.link.Err())
	case <-p.client.closing:
		if p.withdraw(o) {
			return Result{ID: m.ID}, fmt.Errorf("publish: %w", ErrClosed)
		}
		// It is on its way: Close waits for the answers, within its context.
		select {
		case c := <-answer:
			return answered(m, &c)
		case <-ctx.Done():
			p.forget(o)
			return Result{ID: m.ID}, fmt.Errorf("publish: %w", ctx.Err())
		case <-p.link.Done():
			return Result{ID: m.ID}, fmt.Errorf("publish: %w", ErrClosed)
		}
	}
}

// answered is the broker's answer as a result.
func answered(m *persist.Message, c *session.Completion) (Result, error) {
	r := Result{ID: m.ID, State: stateOf(c.Class), ReasonCode: c.Code}
	if r.State == persist.StateFailed {
		r.Reason = reasonText(c)
	}
	return r, r.Err()
}

// close waits for what is in flight and disconnects.
func (p *publisher) close(ctx context.Context) error {
	defer p.board.ended()
	if p.link.Engine().Snapshot().Connected {
		_ = p.link.Engine().WaitIdle(ctx) // Publish told its callers what it knew
	}
	return p.link.Close(ctx)
}
