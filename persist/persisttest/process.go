package persisttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// processCases are about marks and effects in one transaction.
func processCases() []testCase {
	return []testCase{
		{tag: "CLAIM-9", name: "the mark commits with the effect", needs: needsTx, run: checkProcessCommit},
		{tag: "CLAIM-9", name: "and rolls back with it", needs: needsTx, run: checkProcessRollback},
		{tag: "CLAIM-9", name: "claims of both kinds", needs: needsTx, run: checkProcessAndClaims},
		{tag: "CLAIM-9", name: "one key twice", needs: needsTx, run: checkProcessTwice},
		{tag: "CLAIM-9", name: "a step fails alone", needs: needsTx, run: checkProcessStep},
		{tag: "CLAIM-9", name: "a dead letter within", needs: needsTx, run: checkProcessDead},
		{tag: "CLAIM-10", name: "a dead letter within a transaction", needs: needsTx, run: checkProcessEnded},
		{tag: "CLAIM-9", name: "a race has one effect", needs: needsTx, run: checkProcessRace},
		{tag: "CLAIM-12", name: "a transaction that is still in use", needs: needsTx, run: checkProcessInUse},
	}
}

func (e *env) process(fn ProcessFunc) error {
	return e.backend.(TxBackend).ProcessTx(e.ctx, e.store, fn)
}

// beginKey begins one key of a group.
func beginKey(ctx context.Context, p persist.Process, group, key string, window time.Duration) (persist.Claim, error) {
	claims, err := p.Begin(ctx, group, []string{key}, window)
	if err != nil {
		return persist.Claim{}, err
	}
	return claims[0], nil
}

// handleKey processes a key with an effect of its name.
func handleKey(ctx context.Context, p persist.Process, tx CallerTx, key string) (persist.ClaimState, error) {
	claim, err := beginKey(ctx, p, "g", key, time.Hour)
	if err != nil || claim.State != persist.ClaimGranted {
		return claim.State, err
	}
	return claim.State, effect(ctx, tx, key)
}

func checkProcessCommit(e *env) {
	e.db()
	for round := range 3 {
		require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
			for _, key := range []string{"a", "b"} {
				state, err := handleKey(ctx, p, tx, key)
				if err != nil {
					return err
				}
				if want := persist.ClaimGranted; round == 0 && state != want {
					return errors.New("not granted")
				} else if round > 0 && state != persist.ClaimCompleted {
					return errors.New("handed out again")
				}
			}
			return nil
		}))
	}
	require.Equal(e, []string{"a", "b"}, e.effects())
	e.crash()
	require.Equal(e, persist.ClaimCompleted, e.claim("a").State, "the mark counts for claims as well")
	require.EqualValues(e, 2, e.stats().Completed)
	e.advance(2 * time.Hour)
	granted(e, e.claim("a"), 1)
}

func checkProcessRollback(e *env) {
	e.db()
	broken := errors.New("handler failed")
	require.ErrorIs(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		if _, err := handleKey(ctx, p, tx, "a"); err != nil {
			return err
		}
		return broken
	}), broken)
	require.Panics(e, func() {
		_ = e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
			if _, err := handleKey(ctx, p, tx, "a"); err != nil {
				return err
			}
			panic("handler panicked")
		})
	}, "a panic is the caller's")
	require.Empty(e, e.effects())
	claim := e.claim("a")
	require.Equal(e, persist.ClaimGranted, claim.State)
}

func checkProcessAndClaims(e *env) {
	e.db()
	claim := e.claim("k")
	begin := func() (claim persist.Claim) {
		require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) (err error) {
			claim, err = beginKey(ctx, p, "g", "k", time.Hour)
			return err
		}))
		return claim
	}
	busy := begin()
	require.Equal(e, persist.ClaimBusy, busy.State)
	e.around(lease, busy.Remaining, "remaining")
	e.advance(lease)
	taken := begin()
	granted(e, taken, 2)
	require.Greater(e, taken.Epoch, claim.Epoch)
	require.Equal(e, []bool{false}, e.complete(time.Hour, claim), "paused past its lease, and woken up")
	require.Equal(e, persist.ClaimCompleted, begin().State)
	e.complete(time.Hour, e.claim("other"))
	require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		claim, err := beginKey(ctx, p, "g", "other", time.Hour)
		if err == nil && claim.State != persist.ClaimCompleted {
			err = errors.New("a completed key was granted")
		}
		return err
	}))
}

func checkProcessStep(e *env) {
	e.db()
	broken := errors.New("step failed")
	require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		for _, key := range []string{"a", "b", "c"} {
			if _, err := beginKey(ctx, p, "g", key, time.Hour); err != nil {
				return err
			}
			err := p.Step(ctx, func() error {
				if err := effect(ctx, tx, key); err != nil {
					return err
				}
				if key == "b" {
					return broken
				}
				return nil
			})
			if (key == "b") != errors.Is(err, broken) {
				return errors.Join(errors.New("the step's own error is expected"), err)
			}
		}
		return nil
	}))
	require.Equal(e, []string{"a", "c"}, e.effects())
	require.Equal(e, persist.ClaimCompleted, e.claim("b").State, "what came before the step stands")
}

func checkProcessTwice(e *env) {
	e.db()
	require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		first, err := beginKey(ctx, p, "g", "k", time.Hour)
		if err != nil || first.State != persist.ClaimGranted || first.Key != "k" {
			return errors.Join(errors.New("the first was not granted"), err)
		}
		again, err := beginKey(ctx, p, "g", "k", time.Hour)
		if err != nil || again.State != persist.ClaimCompleted {
			return errors.Join(errors.New("the second is a duplicate of the first"), err)
		}
		other, err := beginKey(ctx, p, "other", "k", time.Hour)
		if err != nil || other.State != persist.ClaimGranted {
			return errors.Join(errors.New("another group has its own keys"), err)
		}
		return nil
	}))
	require.ErrorIs(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		_, err := beginKey(ctx, p, "g", "new", time.Second-1)
		return err
	}), persist.ErrInvalid)
	e.releaseClaims(e.claim("released"))
	require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		claim, err := beginKey(ctx, p, "g", "released", time.Hour)
		if err != nil || claim.State != persist.ClaimGranted || claim.Attempts != 2 {
			return errors.Join(errors.New("a released key is free, and its attempts count"), err)
		}
		return nil
	}))
}

func checkProcessDead(e *env) {
	e.db()
	add := func(id string, result error) error {
		return e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
			if _, err := beginKey(ctx, p, "g", id, time.Hour); err != nil {
				return err
			}
			if err := p.AddDeadLetter(ctx, letter(id)); err != nil {
				return err
			}
			return result
		})
	}
	require.NoError(e, add("a", nil))
	require.Error(e, add("b", errors.New("rolled back")))
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 1)
	sameLetter(e, letter("a"), letters[0])
	require.Equal(e, persist.ClaimCompleted, e.claim("a").State)
	require.Equal(e, persist.ClaimGranted, e.claim("b").State)
}

func checkProcessEnded(e *env) {
	e.db()
	require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		if _, err := p.Begin(ctx, "g", []string{"processed", "dead", uuid}, time.Hour); err != nil {
			return err
		}
		for _, key := range []string{"dead", uuid} {
			dead := letter("d")
			dead.Key = key
			if err := p.AddDeadLetter(ctx, dead); err != nil {
				return err
			}
		}
		return nil
	}))
	claims := e.claims("g", lease, "processed", "dead", uuid)
	require.Equal(e, persist.Claim{Key: "processed", State: persist.ClaimCompleted}, claims[0])
	require.Equal(e, persist.Claim{Key: "dead", State: persist.ClaimCompleted, Dead: true}, claims[1])
	require.Equal(e, persist.Claim{Key: uuid, State: persist.ClaimCompleted, Dead: true}, claims[2])
	require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		claims, err := p.Begin(ctx, "g", []string{"processed", "dead"}, time.Hour)
		if err == nil && (claims[0].Dead || !claims[1].Dead) {
			err = errors.New("a transaction learns nothing else")
		}
		return err
	}))
	n, err := e.retry(persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	require.Equal(e, 2, n)
	granted(e, e.claim("dead"), 1) // [DEAD-4]
}

// A goroutine keeps the transaction, and uses it while the next one is under way.
func checkProcessInUse(e *env) {
	e.db()
	late, ended := make(chan struct{}), make(chan error, 1)
	wake := sync.OnceFunc(func() { close(late) })
	defer wake()
	err := e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		begun := make(chan struct{})
		go func() {
			ended <- p.Step(ctx, func() error {
				_, err := handleKey(ctx, p, tx, "a")
				close(begun)
				<-late
				return errors.Join(err, effect(context.WithoutCancel(ctx), tx, "late"))
			})
		}()
		<-begun
		return fmt.Errorf("a handler does not return: %w", persist.ErrTxInUse)
	})
	require.ErrorIs(e, err, persist.ErrTxInUse)
	require.NoError(e, e.process(func(ctx context.Context, p persist.Process, tx CallerTx) error {
		return p.Step(ctx, func() error {
			state, err := handleKey(ctx, p, tx, "a")
			if err != nil || state != persist.ClaimGranted {
				return errors.Join(errors.New("the mark has not gone with its transaction"), err)
			}
			wake()
			if err := <-ended; err == nil {
				return errors.New("the transaction that was in use goes on")
			}
			_, err = handleKey(ctx, p, tx, "b")
			return err
		})
	}))
	require.Equal(e, []string{"a", "b"}, e.effects())
}

func checkProcessRace(e *env) {
	e.db()
	handles := []persist.Store{e.store, e.handle()}
	e.together(8, func(i int) error {
		for range 1000 {
			err := e.backend.(TxBackend).ProcessTx(e.ctx, handles[i%2], func(ctx context.Context, p persist.Process, tx CallerTx) error {
				_, err := handleKey(ctx, p, tx, "k")
				return err
			})
			if !errors.Is(err, persist.ErrUnavailable) {
				return err
			}
		}
		return persist.ErrUnavailable
	})
	require.Equal(e, []string{"k"}, e.effects())
}
