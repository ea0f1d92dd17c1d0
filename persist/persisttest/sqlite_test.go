package persisttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// file is where SQLite stores live in these tests: they are about transactions
// and damaged bytes, which a store in memory does not have.
type file struct {
	path string
	opts Options
	now  atomic.Int64
	bend func(s *sqlite.Store) persist.Store

	SQLTxs

	open sync.Once
	db   *sql.DB
	t    T
}

func (f *file) Open(ctx context.Context) (persist.Store, error) {
	store, err := sqlite.Open(ctx, f.path, sqlite.Options{
		Lanes: f.opts.Lanes, MaxMessages: f.opts.Limits.Messages, MaxBytes: f.opts.Limits.Bytes, MaxAge: f.opts.Limits.Age, Synchronous: sqlite.SynchronousNormal,
		BusyTimeout: 500 * time.Millisecond,
		Clock:       func() time.Time { return time.Unix(1_700_000_000, f.now.Load()) },
	})
	if err != nil {
		return nil, err
	}
	return f.bend(store), nil
}

func (f *file) Advance(d time.Duration) { f.now.Add(int64(d)) }

func (f *file) handle() *sql.DB {
	f.open.Do(func() {
		var err error
		f.db, err = sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(5000)")
		require.NoError(f.t, err)
		f.t.Cleanup(func() { require.NoError(f.t, f.db.Close()) })
	})
	return f.db
}

func (f *file) CorruptMessage(ctx context.Context, ref persist.Ref) error {
	_, err := f.DB().ExecContext(ctx, "UPDATE oncemq_outbox SET body = x'01' WHERE position = ?", ref.Position)
	return err
}

func (f *file) CorruptDeadLetter(ctx context.Context, number int64) error {
	_, err := f.DB().ExecContext(ctx, "UPDATE oncemq_dead_letters SET body = x'01' WHERE number = ?", number)
	return err
}

func (f *file) CorruptSession(ctx context.Context, clientID string) error {
	_, err := f.DB().ExecContext(ctx, "UPDATE oncemq_sessions SET states = x'01' WHERE client_id = ?", clientID)
	return err
}

func onFile(bend func(s *sqlite.Store) persist.Store) Harness {
	return Harness{
		New: func(t T, opts Options) Backend {
			f := &file{path: filepath.Join(t.TempDir(), "store.db"), opts: opts, bend: bend, t: t}
			f.Handle = f.handle
			return f
		},
		Durable: true, Shared: true, FrozenClock: true, Notifies: true, Transacts: true, Corrupts: true,
	}
}

// bentSQL is an SQLite store with some of its methods replaced.
type bentSQL struct {
	*sqlite.Store
	enqueueTx func(ctx context.Context, tx *sql.Tx, msgs []persist.Message) ([]persist.Enqueued, error)
	processTx func(ctx context.Context, fn func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error) error
	process   func(p *bentProcess) // replaces methods of each transaction
	next      func(l persist.Lane, ctx context.Context, limit, maxBytes int) ([]persist.Entry, error)
	letters   func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error)
	load      func(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error)
}

func bendSQL(change func(b *bentSQL)) func(s *sqlite.Store) persist.Store {
	return func(s *sqlite.Store) persist.Store {
		b := &bentSQL{
			Store: s, processTx: s.ProcessTx,
			enqueueTx: func(ctx context.Context, tx *sql.Tx, msgs []persist.Message) ([]persist.Enqueued, error) {
				return s.WithTx(tx).Enqueue(ctx, msgs)
			}, process: func(*bentProcess) {},
			next: persist.Lane.Next, letters: s.ListDeadLetters, load: s.LoadSession,
		}
		change(b)
		return b
	}
}

func (b *bentSQL) WithTx(tx *sql.Tx) persist.TxOutbox { return &bentOutbox{b.Store.WithTx(tx), b, tx} }

type bentOutbox struct {
	persist.TxOutbox
	b  *bentSQL
	tx *sql.Tx
}

func (o *bentOutbox) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	return o.b.enqueueTx(ctx, o.tx, msgs)
}

func (b *bentSQL) ProcessTx(ctx context.Context, fn func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error) error {
	return b.processTx(ctx, func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		bent := &bentProcess{TxProcess: p, begin: p.Begin, step: p.Step, add: p.AddDeadLetter}
		b.process(bent)
		return fn(ctx, bent)
	})
}

func (b *bentSQL) ListDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	return b.letters(ctx, filter, limit)
}

func (b *bentSQL) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	return b.load(ctx, clientID, epoch)
}

func (b *bentSQL) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	lane, err := b.Store.AcquireLane(ctx, number, owner, ttl)
	if err != nil {
		return nil, err
	}
	return &bentSQLLane{lane, b}, nil
}

type bentSQLLane struct {
	persist.Lane
	b *bentSQL
}

func (l *bentSQLLane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	return l.b.next(l.Lane, ctx, limit, maxBytes)
}

type bentProcess struct {
	persist.TxProcess[*sql.Tx]
	begin func(ctx context.Context, group string, keys []string, window time.Duration) ([]persist.Claim, error)
	step  func(ctx context.Context, fn func() error) error
	add   func(ctx context.Context, letter persist.DeadLetter) error
}

func (p *bentProcess) Begin(ctx context.Context, group string, keys []string, window time.Duration) ([]persist.Claim, error) {
	return p.begin(ctx, group, keys, window)
}

func (p *bentProcess) Step(ctx context.Context, fn func() error) error { return p.step(ctx, fn) }

func (p *bentProcess) AddDeadLetter(ctx context.Context, letter persist.DeadLetter) error {
	return p.add(ctx, letter)
}

// sqlMutants are defects of transactions, and in the face of damaged bytes.
func sqlMutants() map[string]struct {
	caught []string
	change func(b *bentSQL)
} {
	type defect = struct {
		caught []string
		change func(b *bentSQL)
	}
	return map[string]defect{
		"enqueues beside the transaction": {[]string{"OUTBOX-13"}, func(b *bentSQL) {
			b.enqueueTx = func(ctx context.Context, _ *sql.Tx, msgs []persist.Message) ([]persist.Enqueued, error) {
				short, cancel := context.WithTimeout(ctx, time.Second) // the transaction may hold the lock
				defer cancel()
				return b.Enqueue(short, msgs)
			}
		}},
		"enqueues in another order": {[]string{"OUTBOX-13"}, func(b *bentSQL) {
			b.enqueueTx = func(ctx context.Context, tx *sql.Tx, msgs []persist.Message) (places []persist.Enqueued, err error) {
				for i := len(msgs) - 1; i >= 0; i-- {
					place, err := b.Store.WithTx(tx).Enqueue(ctx, msgs[i:i+1])
					if err != nil {
						return nil, err
					}
					places = append(place, places...)
				}
				return places, nil
			}
		}},
		"loses what is committed late": {[]string{"OUTBOX-7"}, func(b *bentSQL) {
			b.enqueueTx = func(ctx context.Context, tx *sql.Tx, msgs []persist.Message) ([]persist.Enqueued, error) {
				places, err := b.Store.WithTx(tx).Enqueue(ctx, msgs)
				if err == nil {
					_, err = tx.ExecContext(ctx, "DELETE FROM oncemq_outbox")
				}
				return places, err
			}
		}},
		"commits what failed": {[]string{"CLAIM-9", "CLAIM-12"}, func(b *bentSQL) {
			b.processTx = func(ctx context.Context, fn func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error) error {
				var failed error
				err := b.Store.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
					failed = fn(ctx, p)
					return nil
				})
				return errors.Join(failed, err)
			}
		}},
		"commits what panicked": {[]string{"CLAIM-9"}, func(b *bentSQL) {
			b.processTx = func(ctx context.Context, fn func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error) error {
				var panicked any
				err := b.Store.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
					defer func() { panicked = recover() }()
					return fn(ctx, p)
				})
				if panicked != nil {
					panic(panicked)
				}
				return err
			}
		}},
		"begins everything": {[]string{"CLAIM-9"}, func(b *bentSQL) {
			b.process = func(p *bentProcess) {
				p.begin = func(ctx context.Context, group string, keys []string, window time.Duration) ([]persist.Claim, error) {
					claims, err := p.TxProcess.Begin(ctx, group, keys, window)
					for i := range claims {
						claims[i].State = persist.ClaimGranted
					}
					return claims, err
				}
			}
		}},
		"marks nothing": {[]string{"CLAIM-9"}, func(b *bentSQL) {
			b.process = func(p *bentProcess) {
				p.begin = func(_ context.Context, _ string, keys []string, _ time.Duration) ([]persist.Claim, error) {
					claims := make([]persist.Claim, len(keys))
					for i, key := range keys {
						claims[i] = persist.Claim{Key: key, Epoch: 1, Attempts: 1}
					}
					return claims, nil
				}
			}
		}},
		"steps without a savepoint": {[]string{"CLAIM-9"}, func(b *bentSQL) {
			b.process = func(p *bentProcess) {
				p.step = func(_ context.Context, fn func() error) error { return fn() }
			}
		}},
		"hides the error of a step": {[]string{"CLAIM-9"}, func(b *bentSQL) {
			b.process = func(p *bentProcess) {
				p.step = func(ctx context.Context, fn func() error) error {
					_ = p.TxProcess.Step(ctx, fn)
					return nil
				}
			}
		}},
		"loses letters of transactions": {[]string{"CLAIM-9"}, func(b *bentSQL) {
			b.process = func(p *bentProcess) {
				p.add = func(context.Context, persist.DeadLetter) error { return nil }
			}
		}},
		"stops at what cannot be read": {[]string{"OUTBOX-8"}, func(b *bentSQL) {
			b.next = func(l persist.Lane, ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
				before, _ := b.Store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 100)
				entries, err := l.Next(ctx, limit, maxBytes)
				if after, _ := b.Store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 100); len(after) > len(before) {
					return nil, persist.ErrCorrupt
				}
				return entries, err
			}
		}},
		"throws away what cannot be read": {[]string{"OUTBOX-8", "DEAD-2"}, func(b *bentSQL) {
			b.letters = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
				letters, err := b.Store.ListDeadLetters(ctx, filter, limit)
				kept := letters[:0]
				for _, l := range letters {
					if l.Message.Topic != "" {
						kept = append(kept, l)
					}
				}
				return kept, err
			}
		}},
		"takes a session that cannot be read for an empty one": {[]string{"SESSION-4"}, func(b *bentSQL) {
			b.load = func(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
				states, err := b.Store.LoadSession(ctx, clientID, epoch)
				if errors.Is(err, persist.ErrCorrupt) {
					err = nil
				}
				return states, err
			}
		}},
		"lists nothing beside what cannot be read": {[]string{"DEAD-2", "OUTBOX-8"}, func(b *bentSQL) {
			b.letters = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
				letters, err := b.Store.ListDeadLetters(ctx, filter, limit)
				for _, l := range letters {
					if l.Message.Topic == "" {
						return nil, persist.ErrCorrupt
					}
				}
				return letters, err
			}
		}},
	}
}

func TestSQLMutantsAreCaught(t *testing.T) {
	t.Parallel()
	cases := byTag(allCases())
	for name, m := range sqlMutants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tag := range m.caught {
				caught := 0
				for _, c := range cases[tag] {
					if c.needs != 0 && len(observe(t, func(r *recorder) { c.check(r, onFile(bendSQL(m.change))) })) > 0 {
						caught++
					}
				}
				if caught == 0 {
					t.Errorf("no case of %s notices it", tag)
				}
			}
		})
	}
}

// The faults of a store pass its transactions through.
func TestFaultyTransactions(t *testing.T) {
	t.Parallel()
	faulty := func(s *sqlite.Store) persist.Store {
		store, _ := NewFaulty(s)
		return store
	}
	for _, c := range slices.Concat(txCases(), processCases()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, onFile(faulty))
		})
	}
}

func TestFaultOfTransactions(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Failed, Applied, Lost} {
		for _, op := range []Op{OpProcessTx, OpProcessBegin, OpProcessStep, OpProcessAddDeadLetter, OpEnqueueTx} {
			t.Run(fmt.Sprint(op, " ", mode), func(t *testing.T) {
				t.Parallel()
				backend := onFile(func(s *sqlite.Store) persist.Store { return s }).New(t, Options{Lanes: 1})
				inner, err := backend.Open(t.Context())
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, inner.Close(context.Background())) })
				store, faults := NewFaulty(inner, Fault{Op: op, Mode: mode})
				ran := 0
				err = store.(persist.TxProcessor[*sql.Tx]).ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
					ran++
					if _, err := beginKey(ctx, p, "g", "k", time.Hour); err != nil {
						return err
					}
					if err := p.Step(ctx, func() error { return p.AddDeadLetter(ctx, letter("d")) }); err != nil {
						return err
					}
					_, err := store.(persist.TxJoiner[*sql.Tx]).WithTx(p.Tx()).Enqueue(ctx, []persist.Message{message("m")})
					return err
				})
				require.ErrorIs(t, err, ErrInjected)
				require.Equal(t, mode != Failed, errors.Is(err, persist.ErrUnknownOutcome))
				require.Equal(t, 1, ran, "the handler runs once, whatever becomes of its transaction")
				require.Equal(t, 1, faults.Failed())
				stats, err := inner.Stats(t.Context())
				require.NoError(t, err)
				want := int64(0)
				if op == OpProcessTx && mode == Applied {
					want = 1
				}
				require.Equal(t, []int64{want, want, want}, []int64{stats.Completed, stats.ConsumerDead, stats.Pending})
			})
		}
	}
}
