package brokertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/oncemq/oncemq/internal/loopback"
)

// Broker is a small MQTT 5 broker for end-to-end runs, with faults that can be
// chosen. It keeps everything in memory, records what arrives, and notes what
// clients do that the specification forbids. Its methods are safe for
// concurrent use.
//
// What it does not have: wills with a delay, AUTH, topic aliases, and the
// expiry of messages and (other than when the client returns) of sessions.
type Broker struct {
	options Options
	history *history
	held    atomic.Bool  // acknowledgements are held back
	pubacks atomic.Int64 // written so far
	pubrecs atomic.Int64
	pubrels atomic.Int64 // read so far

	// mu guards what follows. It may be held while a link's mu is taken, never
	// the other way round.
	mu       sync.Mutex
	rng      *rand.Rand
	addr     string
	ln       *net.TCPListener // nil while stopped
	links    map[*link]struct{}
	sessions map[string]*session
	retained map[string]*Packet
	turns    map[string]int // whose turn it is in a shared subscription
	answered map[answerKey]int
	refusals int // how many ConnackCodes are used up
	dropped  int
	closed   bool

	accepting sync.WaitGroup
	serving   sync.WaitGroup
}

// NewBroker starts a broker; Close ends it.
func NewBroker(options Options) (*Broker, error) {
	if err := options.validate(); err != nil {
		return nil, fmt.Errorf("brokertest: %w", err)
	}
	b := &Broker{
		options:  options,
		history:  newHistory(),
		rng:      rand.New(rand.NewPCG(options.Seed, 0)), //nolint:gosec // faults that can be repeated.
		addr:     options.Addr,
		links:    map[*link]struct{}{},
		sessions: map[string]*session{},
		retained: map[string]*Packet{},
		turns:    map[string]int{},
		answered: map[answerKey]int{},
	}
	if err := b.Start(); err != nil {
		return nil, err
	}
	return b, nil
}

// Addr is the host and port, the same after Stop and Start.
func (b *Broker) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addr
}

// URL is the address with the scheme mqtt.
func (b *Broker) URL() string { return "mqtt://" + b.Addr() }

// ParsedURL is URL, for clients that want it parsed.
func (b *Broker) ParsedURL() *url.URL { return &url.URL{Scheme: "mqtt", Host: b.Addr()} }

// Start listens again after Stop, on the same address.
func (b *Broker) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return errors.New("brokertest: start: broker is closed")
	case b.ln != nil:
		return errors.New("brokertest: start: broker is running")
	}
	listen := loopback.Listen
	if b.addr != "" {
		listen = func(ctx context.Context) (*net.TCPListener, error) { return loopback.ListenOn(ctx, b.addr) }
	}
	ln, err := listen(context.Background())
	if err != nil {
		return fmt.Errorf("brokertest: start: %w", err)
	}
	b.ln, b.addr = ln, ln.Addr().String()
	b.accepting.Go(func() { b.accept(ln) })
	return nil
}

// Stop refuses connections and resets those that are open (RST, the rest
// unread), and returns when all of them are gone. Sessions and retained
// messages stay, as in a broker that keeps them on disk; Forget drops them.
// What was recorded stays in any case.
func (b *Broker) Stop() {
	b.mu.Lock()
	ln := b.ln
	b.ln = nil
	b.mu.Unlock()
	if ln != nil {
		_ = ln.Close()
	}
	b.accepting.Wait()
	b.ResetAll()
	b.serving.Wait()
}

// Close is Stop for good.
func (b *Broker) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.Stop()
}

// ResetAll resets all open connections (RST, the rest unread). Clients can
// connect again at once.
func (b *Broker) ResetAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		b.leave(l)
		l.reset()
	}
}

// Forget resets all connections and drops all sessions and retained messages:
// what kill -9 and a restart do to mosquitto with its default settings. Between
// Stop and Start it makes of them such a kill with a pause.
func (b *Broker) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.retained)
	clear(b.sessions)
	for l := range b.links {
		l.session = nil
		l.reset()
	}
}

// HoldAcks holds back PUBACK, PUBREC and PUBCOMP until ReleaseAcks. They are
// then sent on the connections that are still open.
func (b *Broker) HoldAcks() { b.held.Store(true) }

// ReleaseAcks ends HoldAcks.
func (b *Broker) ReleaseAcks() {
	b.held.Store(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		l.signal()
	}
}

// SetAnswers replaces Options.Answers, and forgets how often the old ones were
// given.
func (b *Broker) SetAnswers(answers ...Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.options.Answers = answers
	clear(b.answered)
}

// Publish passes a message to the subscribers, as if a client had sent it; it
// is not recorded as an arrival. Topic, Payload, QoS, Retain and Properties of
// p count.
func (b *Broker) Publish(p Packet) {
	p.Type = PUBLISH
	b.mu.Lock()
	defer b.mu.Unlock()
	b.route(&p, "")
}

// Connected are the client IDs that are connected now, in no order.
func (b *Broker) Connected() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for id, s := range b.sessions {
		if s.link != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// Sessions is how many sessions are kept, connected or not.
func (b *Broker) Sessions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sessions)
}

func (b *Broker) accept(ln *net.TCPListener) {
	for {
		tcp, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		index := 0
		b.history.count(func(s *Stats) { s.Connections++; index = s.Connections })
		l := newLink(b, tcp, index)
		b.mu.Lock()
		l.dropAt = b.drawDrop()
		b.links[l] = struct{}{}
		b.mu.Unlock()
		b.serving.Go(l.serve)
	}
}

func (b *Broker) logf(format string, args ...any) {
	if b.options.Logf != nil {
		b.options.Logf(format, args...)
	}
}
