package redis

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/persist"
)

// Store keeps everything in one Redis, under one prefix; see the package
// documentation. It is made by [Open] or [New].
type Store struct {
	client goredis.UniversalClient
	owned  bool // the client is ours to close
	opts   Options
	run    *scripts
	keys   keys
	log    *slog.Logger
	// name is the server and prefix, for errors.
	name       string
	handle     string // tells this handle's notifications from others'
	identity   string
	lanes      int
	durability string

	groups   sync.Map // name to *groupKeys
	adder    adder
	notifier notifier

	mu      sync.Mutex // guards calls and closing
	calls   int
	closing bool
	// drained is closed once the store is closing and no call is under way.
	drained chan struct{}
	close   sync.Once
	closed  error // how closing went; set once
}

var (
	_ persist.Store    = (*Store)(nil)
	_ persist.Notifier = (*Store)(nil)
)

// Identity is what tells this store from others.
func (s *Store) Identity() string { return s.identity }

// Durability says what the store survives, as the server was set up when the
// store was opened.
func (s *Store) Durability() string { return s.durability }

// Time is the server's clock; see [persist.Store].
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	answer, err := s.do(ctx, "time", s.name, s.run.time, []string{s.keys.totals})
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(asInt(answer)), nil
}

// enter begins a call; leave ends it. Between the two the store stays open.
func (s *Store) enter(op string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return refuse(op, s.name, persist.ErrClosed)
	}
	s.calls++
	return nil
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	if s.closing && s.calls == 0 {
		close(s.drained)
	}
}

// do runs a script as a call of the store.
func (s *Store) do(ctx context.Context, op, object string, sc *script, names []string, args ...any) (any, error) {
	if err := s.enter(op); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.perform(ctx, op, object, sc, names, args)
}

// perform runs a script within a call. What certainly did not happen, and will
// in a moment, is tried again: while a Cluster moves the slot, or when the server
// that answered has become a replica and the client now asks for the master anew.
func (s *Store) perform(ctx context.Context, op, object string, sc *script, names []string, args []any) (any, error) {
	for wait := firstRetry; ; wait *= 4 {
		if err := ctx.Err(); err != nil {
			return nil, translate(op, object, false, err)
		}
		answer, err := s.call(ctx, sc, names, args)
		if err == nil {
			return answer, nil
		}
		if wait > lastRetry || !again(err) {
			return nil, translate(op, object, sc.changes, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// How long perform waits before it tries again.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 320 * time.Millisecond
)

// again tells whether a command was refused for a moment only.
func again(err error) bool {
	if errors.Is(err, persist.ErrUnknownOutcome) { // the change was made, see sendAndWait
		return false
	}
	for _, word := range []string{"READONLY", "TRYAGAIN", "MOVED", "ASK", "MASTERDOWN"} {
		if goredis.HasErrorPrefix(err, word) {
			return true
		}
	}
	return false
}

// Close ends the store after the calls that are under way; see [persist.Store].
// If ctx ends before they do, its error is returned, later calls are refused
// all the same, and Close may be called again to wait for the rest.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		if s.calls == 0 {
			close(s.drained)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.drained:
	case <-ctx.Done():
		select {
		case <-s.drained: // nothing has to be waited for
		default:
			return translate("close", s.name, false, ctx.Err())
		}
	}
	s.close.Do(func() {
		s.notifier.close()
		if s.owned {
			s.closed = translate("close", s.name, false, s.client.Close())
		}
	})
	return s.closed
}

// errAnswer is an answer that no script of ours gives.
var errAnswer = errors.New("the server gave an answer of another form")

// strange is the error of such an answer.
func strange(op, object string) error {
	return &persist.Error{Op: op, Object: object, Kind: persist.ErrCorrupt, Err: errAnswer}
}
