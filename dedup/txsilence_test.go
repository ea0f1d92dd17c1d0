package dedup

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// wire is a store in memory, and the way to it: each call may take a while, and the
// connections that there are when it falls silent are dead for good.
type wire struct {
	mu     sync.Mutex // guards the following
	takes  time.Duration
	silent bool
	age    int                  // how often it fell silent
	fits   func() time.Duration // in place of takes, if set
	marks  map[string]bool
	notes  map[string]int // effects
	locked time.Duration  // how long the next Begin waits for others
}

// statement is what a handler does with its transaction.
type statement func(ctx context.Context, effect string) error

func newWire() *wire { return &wire{marks: map[string]bool{}, notes: map[string]int{}} }

func (w *wire) setSilent(silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent = silent; silent {
		w.age++
	}
}

// connect is a new connection: a function that does a round trip.
func (w *wire) connect() func(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	age, dead := w.age, w.silent
	return func(ctx context.Context) error {
		w.mu.Lock()
		takes := w.takes
		if w.fits != nil {
			takes = w.fits()
		}
		if dead || age != w.age {
			takes = time.Hour
		}
		w.mu.Unlock()
		if !pause(ctx, takes) {
			return ctx.Err()
		}
		return nil
	}
}

func (w *wire) Time(ctx context.Context) (time.Time, error) { return time.Now(), w.connect()(ctx) }

func (w *wire) ExpireProcessed(ctx context.Context, _ int) (int, error) { return 0, w.connect()(ctx) }

func (w *wire) Claim(context.Context, persist.ClaimRequest) ([]persist.Claim, error) {
	return nil, &persist.Error{Op: "claim", Kind: persist.ErrInvalid}
}

func (w *wire) Release(context.Context, string, []persist.Claim) error { return nil }

func (w *wire) ProcessTx(ctx context.Context, fn func(context.Context, persist.TxProcess[statement]) error) error {
	p := &wireTx{wire: w, trip: w.connect()}
	if err := p.trip(ctx); err != nil {
		return err
	}
	if err := fn(ctx, p); err != nil {
		return err
	}
	if err := p.trip(ctx); err != nil {
		return &persist.Error{Op: "process", Kind: persist.ErrUnknownOutcome, Err: err}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range p.marks {
		w.marks[key] = true
	}
	for _, effect := range p.effects {
		w.notes[effect]++
	}
	return nil
}

type wireTx struct {
	*wire
	trip           func(context.Context) error
	marks, effects []string
}

func (p *wireTx) Tx() statement {
	return func(ctx context.Context, effect string) error {
		p.effects = append(p.effects, effect)
		return p.trip(ctx)
	}
}

func (p *wireTx) Begin(ctx context.Context, _ string, keys []string, _ time.Duration) ([]persist.Claim, error) {
	p.mu.Lock()
	locked := p.locked
	p.locked = 0
	p.mu.Unlock()
	if !pause(ctx, locked) {
		return nil, ctx.Err()
	}
	if err := p.trip(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := make([]persist.Claim, len(keys))
	for i, key := range keys {
		claims[i] = persist.Claim{Key: key, State: persist.ClaimGranted, Epoch: 1, Attempts: 1}
		if p.wire.marks[key] {
			claims[i].State = persist.ClaimCompleted
		}
	}
	p.marks = append(p.marks, keys...)
	return claims, nil
}

func (p *wireTx) Step(ctx context.Context, fn func() error) error {
	marks, effects := len(p.marks), len(p.effects)
	if err := p.trip(ctx); err != nil {
		return err
	}
	if err := fn(); err != nil {
		p.marks, p.effects = p.marks[:marks], p.effects[:effects]
		return err
	}
	return p.trip(ctx)
}

func (p *wireTx) AddDeadLetter(ctx context.Context, _ persist.DeadLetter) error { return p.trip(ctx) }

// wired is a delivery whose handler has one effect.
type wired struct {
	Node
	key     string
	before  func(ctx context.Context, g Grant)
	runs    int
	settled chan Outcome
}

func (d *wired) Process(ctx context.Context, do statement, g Grant) error {
	d.runs++
	if d.before != nil {
		d.before(ctx, g)
	}
	return do(ctx, d.key)
}

// Failed gives a message up at once: no failure is the handler's.
func (d *wired) Failed(err error, _ int) Verdict { return Verdict{Dead: letterFor(err.Error())} }

func (d *wired) Settled(o Outcome) { d.settled <- o }

func submitWired(t *testing.T, c *TxConsumer[statement], key string, before func(context.Context, Grant)) *wired {
	t.Helper()
	d := &wired{key: key, before: before, settled: make(chan Outcome, 1)}
	require.NoError(t, c.Submit(d, key, time.Time{}))
	return d
}

func startWired(t *testing.T, w *wire, handlerTimeout time.Duration) *TxConsumer[statement] {
	t.Helper()
	c, err := NewTx(TxConfig[statement]{Store: w, Group: "workers", HandlerTimeout: handlerTimeout})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) })
	return c
}

// The store falls silent while a transaction waits for it, at its beginning, however
// shortly, or in the midst of a handler: it is done again soon after the return, and not blamed on the
// handler.
func TestTxSilentLoss(t *testing.T) {
	t.Parallel()
	for _, silence := range []time.Duration{0, 2 * time.Second, 10 * time.Second, 5 * time.Minute} {
		for _, handlerTimeout := range []time.Duration{0, time.Hour} {
			for _, inHandler := range []bool{false, true} {
				if inHandler && silence == 0 {
					continue // nobody sees it
				}
				t.Run(fmt.Sprintf("%v/%v/handler=%v", silence, handlerTimeout, inHandler), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						w := newWire()
						c := startWired(t, w, handlerTimeout)
						require.Equal(t, OutcomeProcessed, <-submitWired(t, c, "first", nil).settled)
						fall := func(context.Context, Grant) {}
						if inHandler {
							var once sync.Once
							fall = func(context.Context, Grant) { once.Do(func() { w.setSilent(true) }) }
						} else {
							w.setSilent(true)
						}
						d := submitWired(t, c, "second", fall)
						synctest.Wait()
						elapse(silence)
						require.Empty(t, d.settled)
						w.setSilent(false)
						back := time.Now()
						require.Equal(t, OutcomeProcessed, <-d.settled)
						require.LessOrEqual(t, time.Since(back), resumes)
						require.Equal(t, map[string]int{"first": 1, "second": 1}, w.notes)
					})
				})
			}
		}
	}
}

// A transaction that waits for others, or whose handlers take their time, goes on
// while the store answers, however slowly.
func TestTxIsNotGivenUp(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{0, 2 * time.Second, 4 * time.Second} {
		t.Run(takes.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				w.takes, w.locked = takes, 10*time.Second
				c := startWired(t, w, 0)
				d := submitWired(t, c, "a", func(context.Context, Grant) { elapse(10 * time.Second) })
				require.Equal(t, OutcomeProcessed, <-d.settled)
				require.Equal(t, 1, d.runs)
			})
		})
	}
}

// A store whose answers take now longer, now less than what it is given at first has
// a transaction given up no more than a few times.
func TestTxOfFitfulStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		c := startWired(t, w, 0)
		began := time.Now()
		w.fits = func() time.Duration {
			if time.Since(began)%(5*time.Second) < 3*time.Second {
				return 2 * time.Second
			}
			return 0
		}
		d := submitWired(t, c, "a", func(ctx context.Context, _ Grant) { pause(ctx, 30*time.Second) })
		select {
		case o := <-d.settled:
			require.Equal(t, OutcomeProcessed, o)
		case <-time.After(10 * time.Minute):
			require.Fail(t, "given up again and again")
		}
		require.LessOrEqual(t, d.runs, 2) // one that is given up may not have begun to run
		require.Equal(t, 1, w.notes["a"])
	})
}

// The answer to a note, or to its release, is lost: it counts once, and nobody waits
// for its claim to end.
func TestNoteWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, op := range []persisttest.Op{persisttest.OpClaim, persisttest.OpRelease} {
		for _, mode := range []persisttest.Mode{persisttest.Applied, persisttest.Lost} {
			t.Run(fmt.Sprint(op, mode), func(t *testing.T) {
				t.Parallel()
				inner, _ := openSQLite(t)
				store, _ := persisttest.NewFaulty(inner, persisttest.Fault{Op: op, Mode: mode})
				tx, ok := store.(TxStore[*sql.Tx])
				require.True(t, ok)
				cfg := txConfig(tx)
				cfg.MaxAttempts = 3
				c := startTx(t, cfg)
				d := newTxInbound("a")
				var attempts int
				d.process = func(_ context.Context, _ *sql.Tx, g Grant) error {
					attempts = g.Attempts
					return nil
				}
				require.NoError(t, c.SubmitAgain(d, "a", time.Time{}))
				require.Equal(t, OutcomeProcessed, d.outcome(t))
				require.Equal(t, 2, attempts, "the delivery before, and this one")
			})
		}
	}
}

// A handler is within its time, and looks at no context, while the store is silent: it
// is not left behind, its message is not run again beside it, and it has not failed.
func TestTxSilenceIsNoFaultOfHandlers(t *testing.T) {
	t.Parallel()
	for _, handlerTimeout := range []time.Duration{0, time.Hour} {
		t.Run(handlerTimeout.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				c := startWired(t, w, handlerTimeout)
				var running, most atomic.Int32
				d := submitWired(t, c, "a", func(context.Context, Grant) {
					most.Store(max(most.Load(), running.Add(1)))
					elapse(20 * time.Second)
					running.Add(-1)
				})
				elapse(time.Second)
				w.setSilent(true)
				elapse(3 * time.Second)
				w.setSilent(false)
				require.Equal(t, OutcomeProcessed, <-d.settled)
				require.EqualValues(t, 1, most.Load())
			})
		})
	}
}

// Close that gives up does not wait for such a handler for longer than for any other.
func TestTxCloseAfterSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		c, err := NewTx(TxConfig[statement]{Store: w, Group: "workers", HandlerTimeout: time.Hour})
		require.NoError(t, err)
		d := submitWired(t, c, "a", func(context.Context, Grant) { elapse(time.Minute) })
		elapse(time.Second)
		w.setSilent(true)
		elapse(3 * time.Second)
		w.setSilent(false)
		elapse(3 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.Error(t, c.Close(ctx))
		require.LessOrEqual(t, time.Since(began), time.Second+2*HandlerGrace)
		require.Equal(t, OutcomeReleased, <-d.settled)
		elapse(time.Hour) // the handler returns
	})
}
