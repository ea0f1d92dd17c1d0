package persist

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Store is everything that a backend keeps. Its methods are safe for
// concurrent use.
type Store interface { //nolint:interfacebloat // it joins the roles; who needs one asks for that
	Outbox
	Processed
	Sessions
	DeadLetters
	Admin

	// Identity is made once, when the store is created, and never changes:
	// what tells two stores apart. 32 hexadecimal digits.
	Identity() string

	// Time is the store's clock: the one by which leases end and windows close.
	// It may differ from the caller's. In whole milliseconds.
	Time(ctx context.Context) (time.Time, error)

	// Durability says in a sentence what the store survives as it is set up.
	Durability() string

	// Close ends the store after the calls that are under way; later calls
	// return an error that wraps ErrClosed. A pool or file that the caller
	// opened stays open. Close is idempotent.
	Close(ctx context.Context) error
}

// TxOutbox is the outbox of a store within a transaction of the caller, which
// must be one of the database that the store lives in. A store makes one from a
// transaction of its database's kind: see [TxJoiner].
type TxOutbox interface {
	// Enqueue is as in [Outbox], but that the messages exist if and only if the
	// transaction commits [OUTBOX-13]. After an error the transaction may be of
	// no use any more, as after any error of its database.
	Enqueue(ctx context.Context, msgs []Message) ([]Enqueued, error)

	// Identity is that of the store.
	Identity() string
}

// TxJoiner is implemented by stores whose outbox can join transactions of the
// caller. T is the transaction: *sql.Tx of sqlite, pgx.Tx of postgres.
type TxJoiner[T any] interface {
	// WithTx is the outbox within that transaction, for as long as it lasts.
	WithTx(tx T) TxOutbox
}

// TxProcessor is implemented by stores whose marks can commit together with a
// handler's writes. T is the transaction that the handler gets: *sql.Tx of
// sqlite, pgx.Tx of postgres.
type TxProcessor[T any] interface {
	// ProcessTx runs fn in one transaction, which commits if fn returns nil
	// and rolls back if it returns an error or panics.
	//
	// An error that wraps ErrTxInUse says that a goroutine may still be using the
	// transaction and the TxProcess, such as one in a handler that does not return.
	// The store then ends the transaction from outside [CLAIM-12]: nothing of it
	// is there, other transactions go on, and whatever that goroutine does with
	// it later fails and changes nothing. A statement under way is cancelled where
	// the database can do that (PostgreSQL) and waited for where it cannot
	// (SQLite).
	ProcessTx(ctx context.Context, fn func(ctx context.Context, p TxProcess[T]) error) error
}

// TxProcess is a transaction in which keys are marked and effects written.
// It must not be used after the function that got it has returned.
type TxProcess[T any] interface {
	// Tx is the transaction. It must not be committed or rolled back.
	Tx() T

	Process
}

// Process is what a store does within a transaction in which effects are
// written.
type Process interface {
	// Begin looks keys up, none of which may occur twice, and answers one by one
	// in their order. A key that is answered ClaimGranted is marked as completed
	// for window within this transaction [CLAIM-9]: the mark exists if and only
	// if the transaction commits. A live claim of a replica that works without
	// transactions is answered ClaimBusy.
	Begin(ctx context.Context, group string, keys []string, window time.Duration) ([]Claim, error)

	// Step runs fn so that it can fail alone: if it returns an error, what fn
	// did in the transaction is undone, and that error is returned.
	Step(ctx context.Context, fn func() error) error

	// AddDeadLetter stores a letter within the transaction. If its key is completed
	// in its group, the mark tells from then on that it ended so [CLAIM-10].
	AddDeadLetter(ctx context.Context, letter DeadLetter) error
}

// Driver opens the stores of one backend. Each backend exports one.
type Driver interface {
	// Schemes are the URL schemes that the driver opens.
	Schemes() []string
	// Open opens, and if need be creates, the store of a URL.
	Open(ctx context.Context, u *url.URL) (Store, error)
}

// Maintainer is implemented by drivers whose stores have a layout with versions,
// for operators who look after it by hand.
type Maintainer interface {
	Driver

	// Migrate brings the store of a URL to this program's version, and creates
	// it if need be. It tells the versions before (0: there was none) and
	// after. Errors are those of Open.
	Migrate(ctx context.Context, u *url.URL) (from, to int, err error)

	// Check looks at the store of a URL and changes nothing. That there is
	// none, or an older or newer one, is no error: the report says so.
	Check(ctx context.Context, u *url.URL) (Report, error)
}

// Report is what [Maintainer.Check] finds.
type Report struct {
	// Schema is the version of the store, zero if there is none; Latest the one
	// that this program makes and needs.
	Schema, Latest int
	// Server names the server and its version; empty if there is none.
	Server string
	// Durability says in a sentence what the store survives.
	Durability string
	// Settings are what that rests on, one by one.
	Settings []Setting
	// Limits are those of the outbox that the URL asks for.
	Limits Limits
	// Missing are the rights that this user lacks.
	Missing []string
	// Notes are what an operator should know, a sentence each.
	Notes []string
}

// Setting is one of the settings that the durability of a store rests on.
type Setting struct {
	// Name and Value are in the words of the server, or of the store's URL.
	Name, Value string
	// Risk is what it takes to lose what was accepted, with this value; Loses says
	// what that is, and Remedy what to set in place. Both are empty with RiskNone.
	Risk          Risk
	Loses, Remedy string
}

// Risk is what it takes to lose what a store has accepted, from nothing to little.
type Risk int

// The risks of a setting.
const (
	// RiskNone: the setting is as it should be.
	RiskNone Risk = iota
	// RiskFailover: another server has to take over.
	RiskFailover
	// RiskPower: the machine has to lose its power, or crash.
	RiskPower
	// RiskCrash: the store's server has to crash or restart, or its memory to be full.
	RiskCrash
)

// Open opens the store of a URL with the driver whose scheme it has:
//
//	store, err := persist.Open(ctx, "sqlite:///var/lib/app/outbox.db", sqlite.Driver{})
//
// The drivers are given by hand, so that a program links the backends that it
// uses and no package registers itself behind the caller's back. The error
// wraps ErrInvalid for a URL that cannot be read or names no driver's scheme;
// it never shows a password.
func Open(ctx context.Context, rawURL string, drivers ...Driver) (Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The text of a url.Error holds the URL, and with it the password.
		return nil, fmt.Errorf("%w: store URL cannot be parsed", ErrInvalid)
	}
	var known []string
	for _, d := range drivers {
		schemes := d.Schemes()
		if slices.Contains(schemes, u.Scheme) {
			return d.Open(ctx, u)
		}
		known = append(known, schemes...)
	}
	if u.Scheme == "" {
		return nil, fmt.Errorf("%w: store URL has no scheme; this program knows %s",
			ErrInvalid, strings.Join(known, ", "))
	}
	return nil, fmt.Errorf("%w: store scheme %q is unknown; this program knows %s",
		ErrInvalid, u.Scheme, strings.Join(known, ", "))
}
