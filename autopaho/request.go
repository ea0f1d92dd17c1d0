package autopaho

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Request publishes a message as [Client.Publish] does and returns the first response
// to it: a message on its Response Topic that has its Correlation Data (section 4.10).
// Both are filled in if they are left open: the topic is this client's own (see
// Config.ResponseTopic), the data are random. Correlation Data that are given must be
// those of no other request under way. Messages on the topic that have other
// Correlation Data, or none, are passed over.
//
// Any number of requests may be under way at once. Responses come by a session of
// their own, so that a handler may make a request while it holds up its subscription;
// the session is not kept by the broker for longer than five minutes without this
// process. Nothing is stored: after a crash nobody waits for a response, and a request
// may have been processed whose response was lost, or, of a broker that repeats it,
// more than once, unless the responder has dedup.
//
// The error is that of Publish, with what it wraps; a *SubscribeError if the broker
// refuses the subscription to the Response Topic; or wraps ErrNoResponse and the
// context's error, and ErrNoSubscribers if that is what the broker said.
func (c *Client) Request(ctx context.Context, m Message) (*Received, error) {
	var first *Received
	err := c.RequestEach(ctx, m, func(r *Received) (more bool) {
		first = r
		return false
	})
	return first, err
}

// RequestEach is Request for a request that several answer: it calls each with every
// response, one at a time, in the order in which they came, until that returns false,
// which is no error, or the context ends. What comes while it is at work waits.
func (c *Client) RequestEach(ctx context.Context, m Message, each func(*Received) (more bool)) error {
	if err := c.begin(); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	defer c.calls.Done()
	r, err := c.ensureRequester()
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	p := &m.Properties
	if p.ResponseTopic == "" {
		p.ResponseTopic = r.topic
	}
	if len(p.CorrelationData) == 0 {
		p.CorrelationData = []byte(rand.Text()) // text, for responders that take it for a string
	}
	if err := validate(&m, c.cfg.MaxPayload); err != nil {
		return fmt.Errorf("request: %w: %w", ErrInvalidMessage, err)
	}
	w, err := r.wait(&m)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	t, err := r.listen(ctx, w.topic)
	if err != nil {
		r.forget(w)
		return requestError(err)
	}
	defer func() {
		r.forget(w) // first: until then a response may wait for us, and leave for that
		r.leave(w.topic, t)
	}()
	sent, err := c.Publish(ctx, m)
	if err != nil {
		return requestError(err)
	}
	return w.each(ctx, sent, each)
}

// requestError is the error of a request that was not sent.
func requestError(err error) error {
	if isContextError(err) {
		return fmt.Errorf("request: %w: %w", ErrNoResponse, err)
	}
	return fmt.Errorf("request: %w", err)
}

// requester is what the requests of a client have in common.
type requester struct {
	client *Client
	in     *consumer
	topic  string // this client's own

	mu      sync.Mutex // guards the following
	waiting map[string]*awaited
	topics  map[string]*responseTopic
}

// awaited is a request under way.
type awaited struct {
	requester *requester
	topic     string
	data      string // its Correlation Data
	responses chan *Received
	over      chan struct{} // closed when nobody waits any more
}

// responseTopic is a subscription to a topic of responses, for as long as a request
// uses it; that of the client's own topic stays.
type responseTopic struct {
	users int
	made  chan struct{} // closed when there is sub or err
	sub   *Subscription
	err   error
}

// ensureRequester starts the session of responses at the first use.
func (c *Client) ensureRequester() (*requester, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.requester != nil {
		return c.requester, nil
	}
	cfg := c.sessionConfig(c.cfg.ClientID + "-rr")
	cfg.CleanStart = true
	cfg.SessionExpiry = min(cfg.SessionExpiry, uint32(passingExpiry/time.Second))
	in, err := c.startConsumer(cfg)
	if err != nil {
		return nil, err
	}
	in.temporary = true
	r := &requester{
		client: c, in: in, topic: c.cfg.ResponseTopic + "/" + uuid.NewString(),
		waiting: make(map[string]*awaited), topics: make(map[string]*responseTopic),
	}
	in.mu.Lock()
	in.notFound = r.handle // of what comes until the broker knows that nobody waits any more
	in.mu.Unlock()
	c.requester = r
	return r, nil
}

// wait registers a request, before its response can come.
func (r *requester) wait(m *Message) (*awaited, error) {
	w := &awaited{
		requester: r, topic: m.Properties.ResponseTopic, data: string(m.Properties.CorrelationData),
		responses: make(chan *Received, 16), over: make(chan struct{}),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[w.data] != nil {
		return nil, fmt.Errorf("%w: correlation data: are those of another request under way; leave them out to have random ones", ErrInvalidMessage)
	}
	r.waiting[w.data] = w
	return w, nil
}

func (r *requester) forget(w *awaited) {
	r.mu.Lock()
	delete(r.waiting, w.data)
	r.mu.Unlock()
	close(w.over)
}

// listen subscribes to a topic of responses, unless that was done.
func (r *requester) listen(ctx context.Context, topic string) (*responseTopic, error) {
	for {
		r.mu.Lock()
		t := r.topics[topic]
		mine := t == nil
		if mine {
			t = &responseTopic{made: make(chan struct{})}
			r.topics[topic] = t
		}
		t.users++
		r.mu.Unlock()
		if mine {
			r.subscribe(ctx, topic, t)
			return t, t.err
		}
		select {
		case <-t.made:
		case <-ctx.Done():
			r.leave(topic, t)
			return nil, ctx.Err()
		}
		if !isContextError(t.err) || ctx.Err() != nil {
			return t, t.err
		}
		// It was the other's time that was over.
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (r *requester) subscribe(ctx context.Context, topic string, t *responseTopic) {
	cfg := SubscribeConfig{Filters: []string{topic}, Retained: RetainedNever, Handler: r.handle}
	cfg.OrderBy = func(m *Message) string { return string(m.Properties.CorrelationData) }
	t.err = cfg.validate(&r.client.cfg)
	if t.err == nil {
		cfg.setDefaults(&r.client.cfg)
		t.sub, t.err = r.in.subscribeNew(ctx, cfg, nil)
	}
	if t.err != nil {
		r.mu.Lock()
		delete(r.topics, topic)
		r.mu.Unlock()
	}
	close(t.made)
}

// responding tells whether responses come to this client's own topic; true as long as
// none was asked for there.
func (c *Client) responding() (topic string, ok bool) {
	c.mu.Lock()
	r := c.requester
	c.mu.Unlock()
	if r == nil {
		return "", true
	}
	r.mu.Lock()
	t := r.topics[r.topic]
	r.mu.Unlock()
	if t == nil {
		return r.topic, true
	}
	select {
	case <-t.made:
		return r.topic, t.err != nil || t.sub.live.Load()
	default:
		return r.topic, false
	}
}

// leave ends the subscription to a topic that no request uses any more.
func (r *requester) leave(topic string, t *responseTopic) {
	r.mu.Lock()
	t.users--
	last := t.users == 0 && topic != r.topic && r.topics[topic] == t
	if last {
		delete(r.topics, topic)
	}
	r.mu.Unlock()
	if last {
		// Its handlers do not wait for anything once their requests are over.
		_ = t.sub.abandon(context.Background())
	}
}

// handle gives a response to the request that it is for. One that nobody waits for is
// passed over.
func (r *requester) handle(ctx context.Context, m *Received) error {
	r.mu.Lock()
	w := r.waiting[string(m.Properties.CorrelationData)]
	r.mu.Unlock()
	if w == nil || w.topic != m.Topic {
		r.client.cfg.Logger.DebugContext(ctx, "a response that no request waits for was passed over", "topic", m.Topic)
		return nil
	}
	kept := *m
	select {
	case w.responses <- &kept:
	case <-w.over:
	case <-ctx.Done():
	}
	return nil
}

// each hands out the responses.
func (w *awaited) each(ctx context.Context, sent Result, each func(*Received) bool) error {
	r := w.requester
	for got := false; ; got = true {
		select {
		case m := <-w.responses:
			if !each(m) {
				return nil
			}
		case <-r.in.link.Done():
			return fmt.Errorf("request: %w", r.in.link.Err())
		case <-r.client.closing:
			return fmt.Errorf("request: %w", ErrClosed)
		case <-ctx.Done():
			switch {
			case got:
				return fmt.Errorf("request: %w", ctx.Err())
			case sent.NoSubscribers():
				return fmt.Errorf("request: %w, and %w: %w", ErrNoResponse, ErrNoSubscribers, ctx.Err())
			}
			return fmt.Errorf("request: %w: %w", ErrNoResponse, ctx.Err())
		}
	}
}
