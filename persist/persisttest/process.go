package persisttest

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// processCases are about marks and effects in one transaction.
func processCases() []testCase {
	return []testCase{
		{tag: "CLAIM-9", name: "the mark commits with the effect", needs: needsSQL, run: checkProcessCommit},
		{tag: "CLAIM-9", name: "and rolls back with it", needs: needsSQL, run: checkProcessRollback},
		{tag: "CLAIM-9", name: "claims of both kinds", needs: needsSQL, run: checkProcessAndClaims},
		{tag: "CLAIM-9", name: "one key twice", needs: needsSQL, run: checkProcessTwice},
		{tag: "CLAIM-9", name: "a step fails alone", needs: needsSQL, run: checkProcessStep},
		{tag: "CLAIM-9", name: "a dead letter within", needs: needsSQL, run: checkProcessDead},
		{tag: "CLAIM-9", name: "a race has one effect", needs: needsSQL, run: checkProcessRace},
	}
}

func (e *env) process(fn func(ctx context.Context, p persist.SQLProcess) error) error {
	return e.store.(persist.SQLProcessor).ProcessTx(e.ctx, fn)
}

// handleKey processes a key with an effect of its name.
func handleKey(ctx context.Context, p persist.SQLProcess, key string) (persist.ClaimState, error) {
	claim, err := p.Begin(ctx, "g", key, time.Hour)
	if err != nil || claim.State != persist.ClaimGranted {
		return claim.State, err
	}
	return claim.State, effect(ctx, p.Tx(), key)
}

func checkProcessCommit(e *env) {
	e.db()
	for round := range 3 {
		require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
			for _, key := range []string{"a", "b"} {
				state, err := handleKey(ctx, p, key)
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
	require.ErrorIs(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		if _, err := handleKey(ctx, p, "a"); err != nil {
			return err
		}
		return broken
	}), broken)
	require.Panics(e, func() {
		_ = e.process(func(ctx context.Context, p persist.SQLProcess) error {
			if _, err := handleKey(ctx, p, "a"); err != nil {
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
		require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) (err error) {
			claim, err = p.Begin(ctx, "g", "k", time.Hour)
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
	require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		claim, err := p.Begin(ctx, "g", "other", time.Hour)
		if err == nil && claim.State != persist.ClaimCompleted {
			err = errors.New("a completed key was granted")
		}
		return err
	}))
}

func checkProcessStep(e *env) {
	e.db()
	broken := errors.New("step failed")
	require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		for _, key := range []string{"a", "b", "c"} {
			if _, err := p.Begin(ctx, "g", key, time.Hour); err != nil {
				return err
			}
			err := p.Step(ctx, func() error {
				if err := effect(ctx, p.Tx(), key); err != nil {
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
	require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		first, err := p.Begin(ctx, "g", "k", time.Hour)
		if err != nil || first.State != persist.ClaimGranted || first.Key != "k" {
			return errors.Join(errors.New("the first was not granted"), err)
		}
		again, err := p.Begin(ctx, "g", "k", time.Hour)
		if err != nil || again.State != persist.ClaimCompleted {
			return errors.Join(errors.New("the second is a duplicate of the first"), err)
		}
		other, err := p.Begin(ctx, "other", "k", time.Hour)
		if err != nil || other.State != persist.ClaimGranted {
			return errors.Join(errors.New("another group has its own keys"), err)
		}
		return nil
	}))
	require.ErrorIs(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		_, err := p.Begin(ctx, "g", "new", time.Second-1)
		return err
	}), persist.ErrInvalid)
	e.releaseClaims(e.claim("released"))
	require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		claim, err := p.Begin(ctx, "g", "released", time.Hour)
		if err != nil || claim.State != persist.ClaimGranted || claim.Attempts != 2 {
			return errors.Join(errors.New("a released key is free, and its attempts count"), err)
		}
		return nil
	}))
}

func checkProcessDead(e *env) {
	e.db()
	add := func(id string, result error) error {
		return e.process(func(ctx context.Context, p persist.SQLProcess) error {
			if _, err := p.Begin(ctx, "g", id, time.Hour); err != nil {
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

func checkProcessRace(e *env) {
	e.db()
	handles := []persist.Store{e.store, e.handle()}
	e.together(8, func(i int) error {
		for range 1000 {
			err := handles[i%2].(persist.SQLProcessor).ProcessTx(e.ctx, func(ctx context.Context, p persist.SQLProcess) error {
				_, err := handleKey(ctx, p, "k")
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
