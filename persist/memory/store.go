package memory

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// MaxLanes is the most lanes that a store may have.
const MaxLanes = 64

// Options set up a Store.
type Options struct {
	// Lanes is the number of lanes, 1 to MaxLanes; less means 1 and more means
	// MaxLanes. Each lane can be drained by another relay, and keeps its own
	// order.
	Lanes int

	// MaxMessages is how many messages the outbox holds, pending and delivered
	// ones together; Enqueue refuses more [OUTBOX-9]. Zero or less sets no
	// limit but the memory.
	MaxMessages int
	// MaxBytes is how many bytes of messages as they would be stored the outbox
	// holds, and MaxAge how old a pending message may get; see persist.Limits.
	MaxBytes int64
	MaxAge   time.Duration

	// Clock is the store's clock. Nil means time.Now, whose steps do not
	// matter here: only the time that passed since New is used.
	Clock func() time.Time
}

// Store is a persist.Store in memory. Use New to make one.
type Store struct {
	identity string
	limits   persist.Limits
	clock    func() time.Time
	started  time.Time
	notifier notifier

	mu          sync.Mutex // guards everything below
	closed      bool
	lanes       []*laneState
	size, bytes int64             // messages in the outbox, and their bytes
	byID        map[string]*entry // those that are known by their ID
	latest      map[string]*entry // the Supersede message of a key that waits to be handed out
	dropped     int64
	superseded  int64
	given       gaveWay
	relays      map[string]int64 // until when each is live
	marks       marks
	sessions    map[string]*session
	deadLetters deadLetters
}

var (
	_ persist.Store    = (*Store)(nil)
	_ persist.Notifier = (*Store)(nil)
)

// New makes an empty store.
func New(opts Options) *Store {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	s := &Store{
		identity:    newIdentity(),
		limits:      persist.Limits{Messages: max(opts.MaxMessages, 0), Bytes: max(opts.MaxBytes, 0), Age: max(opts.MaxAge, 0)},
		clock:       opts.Clock,
		started:     opts.Clock(),
		lanes:       make([]*laneState, min(max(opts.Lanes, 1), MaxLanes)),
		byID:        make(map[string]*entry),
		latest:      make(map[string]*entry),
		relays:      make(map[string]int64),
		marks:       marks{byKey: make(map[markKey]*mark), groups: make(map[string]struct{})},
		sessions:    make(map[string]*session),
		deadLetters: deadLetters{byRef: make(map[persist.Ref]*persist.DeadLetter)},
	}
	for i := range s.lanes {
		s.lanes[i] = &laneState{number: i, waiting: queue{byTime: true}}
	}
	return s
}

// newIdentity makes 32 hexadecimal digits.
func newIdentity() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// Identity implements persist.Store.
func (s *Store) Identity() string { return s.identity }

// Time implements persist.Store.
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "time", ""); err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(s.now()), nil
}

// Durability implements persist.Store.
func (s *Store) Durability() string {
	return "nothing: the store is in memory and ends with the process"
}

// Close implements persist.Store. What the store held is gone.
func (s *Store) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.lanes, s.byID, s.latest, s.sessions = nil, nil, nil, nil
	s.given = gaveWay{}
	s.marks, s.deadLetters = marks{}, deadLetters{}
	return nil
}

// now is the store's time in milliseconds since the Unix epoch. It is what has
// passed on the monotonic clock since the store was made, added to the time of
// day of that moment, so that setting the machine's clock moves no lease.
func (s *Store) now() int64 {
	return s.started.Add(s.clock().Sub(s.started)).UnixMilli()
}

// millis is a duration in milliseconds; what is between two counts as the
// longer, so that nothing that was asked for becomes nothing.
func millis(d time.Duration) int64 {
	ms := d.Milliseconds()
	if d > time.Duration(ms)*time.Millisecond {
		ms++
	}
	return ms
}

// duration is the reverse of millis.
func duration(ms int64) time.Duration {
	return time.Duration(ms) * time.Millisecond
}
