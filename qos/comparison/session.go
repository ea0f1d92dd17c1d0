package comparison

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/qos"
)

// The kinds of sessions that are compared.
const (
	Persistent = "persistent"
	NoSession  = "none"
)

// Got is how many messages were sent and how many of them the subscriber got.
type Got struct {
	Sent     int `json:"sent"`
	Received int `json:"received"`
}

// SessionResult is what one subscriber got at one level. Its session is persistent,
// which a client ID that stays and a session expiry make it; or it has none: it
// begins with a clean start, and the session ends with the connection.
type SessionResult struct {
	Session string    `json:"session"`
	Level   qos.Level `json:"qos"`
	// Connected counts what was sent while the subscriber was connected for the
	// first time, Away what was sent while it was gone, Returned what was sent
	// after it came back.
	Connected Got `json:"while_connected"`
	Away      Got `json:"while_away"`
	Returned  Got `json:"after_return"`
	// Present is the broker's Session Present flag when it came back.
	Present bool `json:"session_present"`
	Lost    int  `json:"lost"`
}

// phases of a subscriber's life; the counts of each are apart.
const (
	whileConnected = iota
	whileAway
	afterReturn
	phases
)

// absentee is a subscriber that goes away and comes back.
type absentee struct {
	session string
	cfg     autopaho.Config
	filter  string
	client  *autopaho.Client
	present bool
	// met tells that there was a connection: the broker may keep the session.
	met atomic.Bool

	mu  sync.Mutex // guards the following
	got map[string]struct{}
	// last is when a message came.
	last time.Time
}

// Sessions shows what a persistent session keeps for a subscriber that is away, and
// what is lost without one. Messages is the number of each phase and level. Errors
// are as those of Run.
func Sessions(ctx context.Context, o Options, each func(*SessionResult) error) error {
	r, err := begin(o)
	if err != nil {
		return err
	}
	defer r.end()
	root := r.opts.Topic + "/" + r.name
	cfg := r.client
	cfg.ClientID = "oncemq-qos-" + r.name + "-pub"
	cfg.SessionExpiry = -1
	publisher, err := autopaho.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeClient(publisher)
	subscribers := []*absentee{r.absentee(Persistent, root), r.absentee(NoSession, root)}
	defer func() {
		for _, s := range subscribers {
			s.end()
		}
	}()
	for _, s := range subscribers {
		if err := s.connect(ctx, r.opts.Timeout); err != nil {
			return r.unanswered(ctx, err)
		}
	}
	if err := r.phase(ctx, publisher, root, whileConnected, subscribers); err != nil {
		return err
	}
	for _, s := range subscribers {
		s.leave()
	}
	if err := r.phase(ctx, publisher, root, whileAway, nil); err != nil {
		return err
	}
	for _, s := range subscribers {
		if err := s.connect(ctx, r.opts.Timeout); err != nil {
			return r.unanswered(ctx, err)
		}
	}
	if err := r.phase(ctx, publisher, root, afterReturn, subscribers); err != nil {
		return err
	}
	for _, s := range subscribers {
		for _, level := range levels() {
			if err := each(s.result(root, level, r.opts.Messages)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) absentee(session, root string) *absentee {
	s := &absentee{session: session, cfg: r.client, filter: root + "/#", got: make(map[string]struct{})}
	s.cfg.ClientID = "oncemq-qos-" + r.name + "-" + session
	s.cfg.SessionExpiry, s.cfg.CleanStart = time.Hour, false
	if session == NoSession {
		s.cfg.SessionExpiry, s.cfg.CleanStart = -1, true
	}
	s.cfg.OnEvent = func(e autopaho.Event) {
		if e.Kind == autopaho.EventConnected {
			s.met.Store(true)
		}
	}
	return s
}

// connect subscribes, and notes whether the broker had kept the session.
func (s *absentee) connect(ctx context.Context, timeout time.Duration) error {
	client, err := autopaho.New(ctx, s.cfg)
	if err != nil {
		return err
	}
	s.client = client
	patience, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := client.Subscribe(patience, autopaho.SubscribeConfig{
		Filters: []string{s.filter}, QoS: 2, Handler: s.message,
	}); err != nil {
		return err
	}
	for _, c := range client.Status(ctx).Connections {
		s.present = c.SessionPresent
	}
	return nil
}

func (s *absentee) leave() {
	if s.client == nil {
		return
	}
	closeClient(s.client)
	s.client = nil
}

// end leaves nothing of the session at the broker.
func (s *absentee) end() {
	s.leave()
	if s.session != Persistent || !s.met.Load() {
		return
	}
	s.cfg.SessionExpiry, s.cfg.CleanStart = -1, true
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.connect(ctx, closeTimeout) // else it ends by itself, in an hour
	s.leave()
}

func (s *absentee) message(_ context.Context, m *autopaho.Received) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[m.Topic] = struct{}{}
	s.last = time.Now()
	return nil
}

// received counts what came of a phase and level.
func (s *absentee) received(root string, level qos.Level, phase int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for topic := range s.got {
		if strings.HasPrefix(topic, phaseRoot(root, level, phase)) {
			n++
		}
	}
	return n
}

func (s *absentee) result(root string, level qos.Level, sent int) *SessionResult {
	var got [phases]Got
	lost := 0
	for phase := range got {
		got[phase] = Got{sent, s.received(root, level, phase)}
		lost += sent - got[phase].Received
	}
	return &SessionResult{
		Session: s.session, Level: level, Present: s.present, Lost: lost,
		Connected: got[whileConnected], Away: got[whileAway], Returned: got[afterReturn],
	}
}

func phaseRoot(root string, level qos.Level, phase int) string {
	return fmt.Sprintf("%s/%s/%d/", root, level, phase)
}

// phase publishes the messages of a phase at all levels, and waits until those who
// are there have them, or have had nothing for a while.
func (r *run) phase(ctx context.Context, p *autopaho.Client, root string, phase int, there []*absentee) error {
	patience, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	for _, level := range levels() {
		for n := range r.opts.Messages {
			_, err := p.Publish(patience, autopaho.Message{
				Topic: fmt.Sprintf("%s%d", phaseRoot(root, level, phase), n), Payload: payloadOf(n), QoS: byte(level),
			})
			if err != nil {
				return err
			}
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	since := time.Now()
	for !r.allHere(root, phase, there) && !quietFor(there, since, r.opts.Quiet) {
		select {
		case <-tick.C:
		case <-patience.Done():
			return patience.Err()
		}
	}
	return nil
}

// allHere tells whether everybody has everything up to a phase.
func (r *run) allHere(root string, phase int, there []*absentee) bool {
	for _, s := range there {
		for _, level := range levels() {
			for p := range phase + 1 {
				if s.received(root, level, p) < r.opts.Messages {
					return false
				}
			}
		}
	}
	return true
}

func quietFor(there []*absentee, since time.Time, quiet time.Duration) bool {
	for _, s := range there {
		s.mu.Lock()
		if s.last.After(since) {
			since = s.last
		}
		s.mu.Unlock()
	}
	return time.Since(since) >= quiet
}

func closeClient(c *autopaho.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = c.Close(ctx) // nothing depends on it
}
