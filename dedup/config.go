package dedup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Store is what a Consumer needs of a [persist.Store].
type Store interface {
	persist.Processed
	// AddDeadLetters is as in [persist.DeadLetters].
	AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error
	// Time is as in [persist.Store].
	Time(ctx context.Context) (time.Time, error)
}

// The defaults and bounds of the settings of a Consumer and a TxConsumer.
const (
	DefaultLease         = 30 * time.Second
	DefaultWindow        = 25 * time.Hour
	DefaultClockSkew     = time.Hour
	DefaultMaxBatch      = 512
	DefaultPollInterval  = time.Second
	DefaultSweepInterval = 5 * time.Second
	DefaultStoreTimeout  = 30 * time.Second
	DefaultMaxHold       = 50 * time.Millisecond
	DefaultTxTimeout     = time.Minute

	// FirstStoreTimeout is how long a call of the store is waited for at first. See
	// Config.StoreTimeout.
	FirstStoreTimeout = 1500 * time.Millisecond

	// CountedClaims is how many claims of a message count as attempts although its
	// handler may not have begun: that costs nothing, and one crash, or a lost lease,
	// says little of a message. See Config.TellsBegin.
	CountedClaims = 2

	MinLease  = time.Second
	MinWindow = time.Second
	MaxWindow = 90 * 365 * 24 * time.Hour
	// MaxBatch is the most keys that go into one call of the store.
	MaxBatch = 10_000
	// MaxGroup is the longest group name in bytes.
	MaxGroup = 128
)

// Config sets a Consumer up. Store and Group are required.
type Config struct {
	// Store keeps the claims and the dead letters. It is not closed by the
	// consumer.
	Store Store

	// Group scopes the keys: the replicas that share the work have the same
	// group, and groups do not see each other's keys. 1 to MaxGroup bytes.
	Group string

	// Owner names this replica to operators. It proves nothing: a suffix that
	// is unique to the Consumer is added. Default "consumer".
	Owner string

	// Lease is for how long a claim holds unless it is renewed, which is done
	// at a third of it. A shorter one lets other replicas take over sooner
	// after a crash, and makes a pause of the process or the store cost claims
	// sooner. At least MinLease; zero means DefaultLease.
	Lease time.Duration

	// Window is how old a message may be, from when it was first sent: for that
	// long, at least, a processed key is remembered. An older one whose key is
	// not known may have been processed and forgotten; it is not processed, see
	// [Grant.TooOld]. So the window must exceed the session expiry and every
	// retry of the publisher. A message that does not tell when it was first
	// sent ([SentAt]) has no such limit, and is processed again if it comes
	// after the window of its key. MinWindow to MaxWindow; zero means
	// DefaultWindow. The number of keys that the store holds grows with it.
	//
	// All replicas of a group have the same Window and ClockSkew: what one with a
	// shorter window has completed is forgotten before another refuses it.
	Window time.Duration

	// ClockSkew is by how much the clocks of publishers may be behind the
	// store's: a message of one that is further behind is refused before its
	// window has closed. Keys are remembered for as much longer. (A clock that
	// is ahead needs no allowance: see [TooOldError].) At most Window; zero
	// means DefaultClockSkew, or Window if that is less.
	ClockSkew time.Duration

	// TellsBegin says that the caller calls [Consumer.Begin] before it runs the
	// handler of a message whose Attempts is CountedClaims + 1 or more. Then a message
	// that was only claimed when its process died does not count as one that was
	// begun, and it can be told which one kills. Without it every claim counts.
	TellsBegin bool

	// MaxBatch is how many keys go into one call of the store, 1 to 10,000;
	// zero means DefaultMaxBatch. More cost latency and fewer cost throughput.
	MaxBatch int

	// PollInterval is how often a key that is busy elsewhere is asked for
	// again, give or take a quarter, and sooner if the other's lease ends
	// sooner. Zero means DefaultPollInterval.
	PollInterval time.Duration

	// SweepInterval is how often keys whose window has closed are looked for,
	// give or take a quarter, and more often while many are found. Zero means
	// DefaultSweepInterval.
	SweepInterval time.Duration

	// StoreTimeout is the most that a call of the store is waited for; a call that
	// takes longer counts as failed with an unknown outcome, and is made again. At
	// first calls are waited for FirstStoreTimeout, or for StoreTimeout if that is
	// less: so work goes on within 2.5 s of the return of a store whose
	// connections have died without a word. The wait for a store that is slow, but
	// answers, grows: after three time-outs in a row of a kind of call the store is
	// asked for its time, and for each answer what times out is waited for twice as
	// long as before, up to StoreTimeout; a call that is answered within the first
	// wait ends that, and so does a question that is not answered. Renewals are
	// bounded by a third of the lease as well. Zero means DefaultStoreTimeout. It
	// should exceed what the slowest call takes: what is never waited for is never
	// done.
	StoreTimeout time.Duration

	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger

	// OnStoreError is called when a call of the store failed, and
	// OnStoreBack once calls succeed again. In between, calls are tried
	// again after a second at most, and nothing is granted or settled by the calls
	// that fail. Both are called by one goroutine, one after another, must not
	// call Close, and may be nil. Errors in quick succession may be reported
	// as one.
	OnStoreError func(err error)
	OnStoreBack  func()
}

// Validate reports all faults at once. Every error wraps [persist.ErrInvalid].
func (cfg Config) Validate() error {
	var f faults
	f.check(cfg.Store != nil, "Store is missing")
	f.group(cfg.Group)
	f.atLeast("Lease", cfg.Lease, MinLease)
	f.window(cfg.Window, cfg.ClockSkew)
	f.batch(cfg.MaxBatch)
	f.notNegative("PollInterval", cfg.PollInterval)
	f.notNegative("SweepInterval", cfg.SweepInterval)
	f.notNegative("StoreTimeout", cfg.StoreTimeout)
	return f.join()
}

// withDefaults is a copy without zeros.
func (cfg Config) withDefaults() Config {
	orDefault(&cfg.Owner, "consumer")
	orDefault(&cfg.Lease, DefaultLease)
	orDefault(&cfg.Window, DefaultWindow)
	orDefault(&cfg.ClockSkew, min(DefaultClockSkew, cfg.Window))
	orDefault(&cfg.MaxBatch, DefaultMaxBatch)
	orDefault(&cfg.PollInterval, DefaultPollInterval)
	orDefault(&cfg.SweepInterval, DefaultSweepInterval)
	orDefault(&cfg.StoreTimeout, DefaultStoreTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// faults collects what is wrong with a Config.
type faults []error

func (f *faults) check(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf("dedup: %w: "+format, append([]any{persist.ErrInvalid}, args...)...))
	}
}

func (f *faults) group(name string) {
	f.check(name != "", "Group is missing")
	f.check(len(name) <= MaxGroup, "Group has %d bytes; the most is %d", len(name), MaxGroup)
}

func (f *faults) window(window, skew time.Duration) {
	f.atLeast("Window", window, MinWindow)
	f.check(window <= MaxWindow, "Window is %v; the most is %v", window, MaxWindow)
	f.notNegative("ClockSkew", skew)
	most := window
	orDefault(&most, DefaultWindow)
	f.check(skew <= most, "ClockSkew is %v; the most is Window, %v", skew, most)
}

// atLeast accepts zero, which stands for the default.
func (f *faults) atLeast(field string, d, least time.Duration) {
	f.check(d == 0 || d >= least, "%s is %v; the least is %v", field, d, least)
}

func (f *faults) notNegative(field string, d time.Duration) {
	f.check(d >= 0, "%s is %v; it must not be negative", field, d)
}

func (f *faults) batch(n int) {
	f.check(n >= 0 && n <= MaxBatch, "MaxBatch is %d; it must be 1 to %d, or 0 for the default", n, MaxBatch)
}

func (f *faults) join() error { return errors.Join(*f...) }
