package dedup

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// resumes is within what time work goes on after the return of a store whose
// connections have died without a word: a call that hangs, and a pause.
const resumes = FirstStoreTimeout + backoffCap

// slowly is a store each of whose calls takes so long, if the caller waits.
func slowly(store Store, takes func(op string) time.Duration) *slow { return &slow{store, takes} }

type slow struct {
	Store
	takes func(op string) time.Duration
}

// wait is the way to the store: who does not wait for it gets no answer, and has
// asked nothing.
func (s *slow) wait(ctx context.Context, op string) error {
	if !pause(ctx, s.takes(op)) {
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	return nil
}

func (s *slow) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	if err := s.wait(ctx, "claim"); err != nil {
		return nil, err
	}
	return s.Store.Claim(ctx, req)
}

func (s *slow) RenewClaims(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
	if err := s.wait(ctx, "renew"); err != nil {
		return nil, err
	}
	return s.Store.RenewClaims(ctx, group, claims, ttl)
}

func (s *slow) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	if err := s.wait(ctx, "complete"); err != nil {
		return nil, err
	}
	return s.Store.Complete(ctx, group, completions, window)
}

func (s *slow) Time(ctx context.Context) (time.Time, error) {
	if err := s.wait(ctx, "time"); err != nil {
		return time.Time{}, err
	}
	return s.Store.Time(ctx)
}

// The store falls silent, for however long: claims and completions go on soon after
// it has returned, though calls hang on connections that have died. So they do if the
// store was slow at first, and was waited for.
func TestSilentLoss(t *testing.T) {
	t.Parallel()
	for _, silence := range []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute} {
		for _, slowBefore := range []bool{false, true} {
			if slowBefore && silence < time.Minute {
				continue // a call that is waited for for long is under way at the return
			}
			t.Run(fmt.Sprintf("%v/slow=%v", silence, slowBefore), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { silentLoss(t, silence, slowBefore) })
			})
		}
	}
}

func silentLoss(t *testing.T, silence time.Duration, slowBefore bool) {
	t.Helper()
	silent := newFaulty(newStore(t))
	takes := time.Duration(0)
	if slowBefore {
		takes = 4 * time.Second
	}
	cfg := testConfig(slowly(silent, func(string) time.Duration { return takes }))
	cfg.Lease = 10 * time.Minute
	c := start(t, cfg)
	inWork := submit(t, c, "in-work")
	<-inWork.granted
	if slowBefore {
		d := submit(t, c, "slow")
		<-d.granted
		c.Complete(d, nil)
		require.Equal(t, OutcomeProcessed, <-d.settled)
	}

	silent.setDecide(func(string, []string) fault { return faultHang })
	takes = 0
	c.Complete(inWork, nil)
	waiting := submit(t, c, "waiting")
	elapse(silence)
	inWork.undecided(t)
	waiting.undecided(t)

	silent.setDecide(nil)
	back := time.Now()
	<-waiting.granted
	require.LessOrEqual(t, time.Since(back), resumes)
	require.Equal(t, OutcomeProcessed, <-inWork.settled)
	require.LessOrEqual(t, time.Since(back), resumes)
	c.Complete(waiting, nil)
	require.Equal(t, OutcomeProcessed, <-waiting.settled)
	require.Equal(t, OutcomeDuplicate, <-submit(t, c, "in-work").settled)
}

// A store that answers, but slowly, is waited for, be all of its calls slow or some;
// and the claims of handlers are kept meanwhile.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{2 * time.Second, 4 * time.Second, 9 * time.Second} {
		for name, slow := range map[string]string{"all": "", "claims": "claim", "completions": "complete"} {
			t.Run(fmt.Sprintf("%v/%s", takes, name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cfg := testConfig(slowly(newStore(t), func(op string) time.Duration {
						if slow == "" || slow == op {
							return takes
						}
						return 0
					}))
					cfg.Lease = DefaultLease
					c := start(t, cfg)
					began := time.Now()
					for i := range 3 {
						d := submit(t, c, key(i))
						require.Equal(t, 1, (<-d.granted).Attempts)
						elapse(3 * cfg.Lease)
						c.Complete(d, nil)
						require.Equal(t, OutcomeProcessed, <-d.settled)
						require.Empty(t, d.granted)
					}
					require.Zero(t, c.Stats().Lost)
					require.Less(t, time.Since(began), 8*time.Minute)
				})
			})
		}
	}
}

// A store that is set to be waited for for less than at first is not waited for longer.
func TestStoreTimeoutIsTheMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(newFaulty(newStore(t)))
		cfg.StoreTimeout = time.Second
		c := start(t, cfg)
		require.Equal(t, time.Second, c.limits.limit(callClaim))
		for range 10 {
			c.limits.timedOut(callClaim)
			synctest.Wait()
		}
		require.Equal(t, time.Second, c.limits.limit(callClaim))

		cfg.StoreTimeout = 4 * time.Second
		c = start(t, cfg)
		for range 10 {
			c.limits.timedOut(callClaim)
			synctest.Wait()
		}
		require.Equal(t, 4*time.Second, c.limits.limit(callClaim))
		require.Equal(t, FirstStoreTimeout, c.limits.limit(callComplete))
		c.limits.answered(callClaim, 2*time.Second)
		require.Equal(t, 4*time.Second, c.limits.limit(callClaim))
		c.limits.answered(callClaim, time.Second)
		require.Equal(t, FirstStoreTimeout, c.limits.limit(callClaim))
	})
}

// Renewals alone are slow: no claim is lost as long as they take less than a third of
// the lease.
func TestSlowStoreRenews(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{2 * time.Second, 4 * time.Second, 7 * time.Second, 9 * time.Second} {
		t.Run(takes.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig(slowly(newStore(t), func(op string) time.Duration {
					if op == "renew" {
						return takes
					}
					return 0
				}))
				cfg.Lease = DefaultLease
				c := start(t, cfg)
				for i := range 3 {
					d := submit(t, c, key(i))
					<-d.granted
					elapse(3 * cfg.Lease)
					c.Complete(d, nil)
					require.Equal(t, OutcomeProcessed, <-d.settled)
				}
				require.Zero(t, c.Stats().Lost)
			})
		})
	}
}
