package postgres

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
)

// tellPause is how long this process waits between two wake-ups of the others.
const tellPause = 5 * time.Millisecond

// tellPatience is how long Close waits until the others are told.
const tellPatience = time.Second

// tellTimeout is how long one attempt to tell the others may take: a connection that died
// without a word would never end it, and they would not be told of anything any more.
const tellTimeout = 2 * time.Second

// How long the listening connection waits before it is made anew.
const (
	listenFirst = 50 * time.Millisecond
	listenMost  = 10 * time.Second
)

// notifier wakes subscribers.
//
// The other processes are told after a commit and not within it. A transaction
// that notifies takes a lock of the whole server before it commits and keeps it
// while the disk is waited for, so that such commits go one by one; one that only
// notifies has nothing to write. A crash between the two costs a wake-up, which
// may be missed anyway.
type notifier struct {
	s        *Store
	instance string // tells our own notifications from others'
	// timeout is for tests; zero is tellTimeout.
	timeout time.Duration

	mu        sync.Mutex // guards the rest
	subs      map[chan struct{}]struct{}
	listening bool
	telling   bool // a goroutine tells the others
	again     bool // there is more to tell than it has begun to
	closed    bool
	hurry     chan struct{} // closed when the store is
	told      chan struct{} // closed when that goroutine ends
}

// Notify subscribes to commits that may have made messages due; see
// [persist.Notifier]. Those of this process are told at once, those of others by
// PostgreSQL, over a connection of its own that the first call of Notify makes and
// that is made anew when it breaks; unless NoListen is set or a pooler stands
// between. Commits of the caller's own transactions ([Store.WithTx]) come that way
// as well. The channel is never closed.
func (s *Store) Notify() (<-chan struct{}, func()) {
	n := &s.notifier
	ch := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ch, func() {}
	}
	if n.subs == nil {
		n.subs = make(map[chan struct{}]struct{})
	}
	n.subs[ch] = struct{}{}
	if !n.listening && !s.opts.NoListen && !s.pooled {
		n.listening = true
		s.work.Go(n.listen)
	}
	return ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, ch)
	}
}

// wake sends without waiting, so that it may do so under the lock.
func (n *notifier) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch := range n.subs {
		select {
		case ch <- struct{}{}:
		default: // it has one already
		}
	}
}

// close forgets the subscribers. It does not wait for goroutines.
func (n *notifier) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	clear(n.subs)
}

// channel is what processes of the store listen to. A schema has a name that needs
// no more than 31 of the 63 bytes that there are.
func (s *Store) channel() string { return "oncemq_" + s.opts.Schema }

// tellAll is the step that tells every process, this one included, when the
// transaction commits.
func (s *Store) tellAll() step {
	return step{stmt: s.q.notify, args: []any{s.channel(), ""}}
}

// tell tells the other processes, soon.
func (n *notifier) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.telling || n.closed {
		n.again = true
		return
	}
	n.telling, n.told = true, make(chan struct{})
	n.s.work.Go(n.tellOthers)
}

// finish waits until what was to be told is, if the server answers soon: a process
// that stores a message and ends is not to leave it to the next poll.
func (n *notifier) finish() {
	n.mu.Lock()
	close(n.hurry)
	telling, told := n.telling, n.told
	n.mu.Unlock()
	if !telling {
		return
	}
	patience := time.NewTimer(tellPatience)
	defer patience.Stop()
	select {
	case <-told:
	case <-patience.C:
	}
}

func (n *notifier) tellOthers() {
	s := n.s
	for {
		// A failure is of no interest: a wake-up may be missed.
		ctx, cancel := context.WithTimeout(s.life, cmp.Or(n.timeout, tellTimeout))
		_, _ = s.attempt(ctx, []step{{stmt: s.q.notify, args: []any{s.channel(), n.instance}}})
		cancel()
		pause := time.NewTimer(tellPause)
		select {
		case <-pause.C:
		case <-n.hurry:
			pause.Stop()
		case <-s.life.Done():
			pause.Stop()
		}
		n.mu.Lock()
		if !n.again || s.life.Err() != nil {
			n.telling = false
			close(n.told)
			n.mu.Unlock()
			return
		}
		n.again = false
		n.mu.Unlock()
	}
}

// listen keeps a connection that hears of others' commits, until the store is
// closed.
func (n *notifier) listen() {
	s := n.s
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = listenFirst, listenMost
	for s.life.Err() == nil {
		heard, err := n.hear()
		if heard {
			wait.Reset()
		}
		if s.life.Err() != nil {
			return
		}
		s.log.WarnContext(s.life, "connection for wake-ups broke", slog.String("store", s.name), slog.Any("error", oneLine(err)))
		pause := time.NewTimer(wait.NextBackOff())
		select {
		case <-pause.C:
		case <-s.life.Done():
			pause.Stop()
		}
	}
}

// hear listens on one connection until it breaks. It tells whether it got so far.
func (n *notifier) hear() (heard bool, err error) {
	s := n.s
	c, err := pgx.ConnectConfig(s.life, s.pool.Config().ConnConfig.Copy())
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(s.life)) }() // it broke, or is of no more use
	if _, err := c.Exec(s.life, "LISTEN "+pgx.Identifier{s.channel()}.Sanitize()); err != nil {
		return false, err
	}
	n.wake() // of what was committed before
	for {
		told, err := c.WaitForNotification(s.life)
		if err != nil {
			return true, err
		}
		if told.Payload != n.instance {
			n.wake()
		}
	}
}
