package persisttest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// claiming is a mutant that changes the answers to claims.
func claiming(f func(b *bent, req persist.ClaimRequest, c *persist.Claim)) func(b *bent) {
	return func(b *bent) {
		b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
			claims, err := b.Store.Claim(ctx, req)
			for i := range claims {
				f(b, req, &claims[i])
			}
			return claims, err
		}
	}
}

// holders remembers the last claim of each key, for those who would pretend to
// be its holder.
type holders struct {
	mu   sync.Mutex // guards last
	last map[string]persist.Claim
}

func remember(b *bent) *holders {
	h := &holders{last: make(map[string]persist.Claim)}
	inner := b.claim
	b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
		claims, err := inner(ctx, req)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, c := range claims {
			if c.State == persist.ClaimGranted {
				h.last[c.Key] = c
			}
		}
		return claims, err
	}
	return h
}

// of is the claim that holds the key of c.
func (h *holders) of(c persist.Claim) persist.Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, ok := h.last[c.Key]; ok {
		return last
	}
	return c
}

func claimMutants() []mutant {
	return []mutant{
		{name: "does not tell how a key ended", caught: []string{"CLAIM-10", "DEAD-4"}, bend: claiming(func(_ *bent, _ persist.ClaimRequest, c *persist.Claim) {
			c.Dead = false
		})},
		{name: "takes every completed key for dead", caught: []string{"CLAIM-10", "DEAD-4"}, bend: claiming(func(_ *bent, _ persist.ClaimRequest, c *persist.Claim) {
			c.Dead = c.State == persist.ClaimCompleted
		})},
		{name: "a renewal keeps the attempts", caught: []string{"CLAIM-11"}, bend: func(b *bent) {
			h := remember(b)
			b.renew = func(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
				claims = slices.Clone(claims)
				for i := range claims {
					claims[i].Attempts = h.of(claims[i]).Attempts
				}
				return b.Store.RenewClaims(ctx, group, claims, ttl)
			}
		}},
		{name: "a release keeps the attempts", caught: []string{"CLAIM-11"}, bend: func(b *bent) {
			h := remember(b)
			b.release = func(ctx context.Context, group string, claims []persist.Claim) error {
				claims = slices.Clone(claims)
				for i := range claims {
					claims[i].Attempts = h.of(claims[i]).Attempts
				}
				return b.Store.Release(ctx, group, claims)
			}
		}},
		{name: "hands out what was completed", caught: []string{"CLAIM-1", "CLAIM-4", "CLAIM-5"}, model: true, bend: claiming(func(_ *bent, _ persist.ClaimRequest, c *persist.Claim) {
			if c.State == persist.ClaimCompleted {
				*c = persist.Claim{Key: c.Key, Epoch: 1 << 40, Attempts: 1}
			}
		})},
		{name: "grants a busy key", caught: []string{"CLAIM-2", "CLAIM-4", "Claim"}, model: true, bend: claiming(func(_ *bent, _ persist.ClaimRequest, c *persist.Claim) {
			if c.State == persist.ClaimBusy {
				*c = persist.Claim{Key: c.Key, Epoch: 1 << 40, Attempts: 2}
			}
		})},
		{name: "windows never close", caught: []string{"CLAIM-1", "CLAIM-3", "CLAIM-8"}, model: true, bend: func(b *bent) {
			b.complete = func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
				if window >= time.Second {
					window *= 1000
				}
				return b.Store.Complete(ctx, group, completions, window)
			}
		}},
		{name: "a claim lasts a minute", caught: []string{"CLAIM-2"}, model: true, bend: func(b *bent) {
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				req.TTL = min(req.TTL, time.Minute)
				return b.Store.Claim(ctx, req)
			}
		}},
		{name: "a renewal of claims does nothing", caught: []string{"CLAIM-2", "CLAIM-4"}, model: true, bend: func(b *bent) {
			b.renew = func(ctx context.Context, group string, claims []persist.Claim, _ time.Duration) ([]bool, error) {
				return b.Store.RenewClaims(ctx, group, claims, time.Nanosecond)
			}
		}},
		{name: "claims that were lost are renewed", caught: []string{"CLAIM-2", "CLAIM-5"}, model: true, bend: func(b *bent) {
			h := remember(b)
			b.renew = func(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
				claims = slices.Clone(claims)
				for i := range claims {
					claims[i] = h.of(claims[i])
				}
				return b.Store.RenewClaims(ctx, group, claims, ttl)
			}
		}},
		{name: "the epochs of a key stay", caught: []string{"CLAIM-3"}, model: true, bend: func(b *bent) {
			h := remember(b)
			inner := b.claim
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				claims, err := inner(ctx, req)
				for i := range claims {
					if claims[i].State == persist.ClaimGranted {
						claims[i].Epoch = 1
					}
				}
				return claims, err
			}
			b.complete = func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
				completions = slices.Clone(completions)
				for i := range completions {
					completions[i].Claim = h.of(completions[i].Claim)
				}
				return b.Store.Complete(ctx, group, completions, window)
			}
		}},
		{name: "the epochs of a forgotten key begin anew", caught: []string{"CLAIM-8"}, bend: func(b *bent) {
			// Epochs are the attempts of all time; a key that is swept has none.
			h := remember(b)
			inner := b.claim
			var swept atomic.Bool
			b.expire = func(ctx context.Context, limit int) (int, error) {
				swept.Store(true)
				return b.Store.ExpireProcessed(ctx, limit)
			}
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				claims, err := inner(ctx, req)
				for i := range claims {
					if swept.Load() && claims[i].State == persist.ClaimGranted {
						claims[i].Epoch = 1
					}
				}
				return claims, err
			}
			_ = h
		}},
		{name: "does not count attempts", caught: []string{"CLAIM-2", "CLAIM-3", "CLAIM-7"}, model: true, bend: claiming(func(_ *bent, _ persist.ClaimRequest, c *persist.Claim) {
			c.Attempts = min(c.Attempts, 1)
		})},
		{name: "grants a key to each of many", caught: []string{"CLAIM-4"}, bend: func(b *bent) {
			var n atomic.Int64
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				claims, err := b.Store.Claim(ctx, req)
				for i := range claims {
					if claims[i].State == persist.ClaimBusy && n.Add(1)%10 == 0 {
						claims[i].State, claims[i].Epoch = persist.ClaimGranted, 1<<40
					}
				}
				return claims, err
			}
		}},
		{name: "answers in another order", caught: []string{"CLAIM-4", "Claim"}, model: true, bend: func(b *bent) {
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				claims, err := b.Store.Claim(ctx, req)
				slices.Reverse(claims)
				return claims, err
			}
		}},
		{name: "does not compare epochs at completion", caught: []string{"CLAIM-5", "CLAIM-7", "Claim", "CLAIM-8"}, model: true, bend: func(b *bent) {
			h := remember(b)
			b.complete = func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
				completions = slices.Clone(completions)
				for i := range completions {
					completions[i].Claim = h.of(completions[i].Claim)
				}
				return b.Store.Complete(ctx, group, completions, window)
			}
		}},
		{name: "releases whatever has the key", caught: []string{"CLAIM-5", "CLAIM-7"}, model: true, bend: func(b *bent) {
			h := remember(b)
			b.release = func(ctx context.Context, group string, claims []persist.Claim) error {
				claims = slices.Clone(claims)
				for i := range claims {
					claims[i] = h.of(claims[i])
				}
				return b.Store.Release(ctx, group, claims)
			}
		}},
		{name: "releases nothing", caught: []string{"CLAIM-7", "CLAIM-3", "CLAIM-4"}, model: true, bend: func(b *bent) {
			b.release = func(ctx context.Context, group string, _ []persist.Claim) error {
				return b.Store.Release(ctx, group, nil)
			}
		}},
		{name: "marks at the claim", caught: []string{"CLAIM-2", "CLAIM-3", "CLAIM-7", "Claim"}, model: true, bend: func(b *bent) {
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				claims, err := b.Store.Claim(ctx, req)
				for _, c := range claims {
					if c.State == persist.ClaimGranted {
						if _, err := b.Store.Complete(ctx, req.Group, []persist.Completion{{Claim: c}}, 10*time.Hour); err != nil {
							return nil, err
						}
					}
				}
				return claims, err
			}
		}},
		{name: "marks nothing", caught: []string{"CLAIM-1", "CLAIM-5"}, model: true, bend: func(b *bent) {
			b.complete = func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
				return b.Store.Complete(ctx, group, completions, min(window, time.Second))
			}
		}},
		{name: "an ended claim cannot be completed", caught: []string{"CLAIM-5"}, model: true, bend: func(b *bent) {
			b.complete = func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
				// Claiming tells: who is granted a key has found it ended.
				for _, c := range completions {
					if claims, err := b.Store.Claim(ctx, persist.ClaimRequest{Group: group, TTL: lease, Keys: []string{c.Claim.Key}}); err != nil {
						return nil, err
					} else if claims[0].State == persist.ClaimGranted {
						if err := b.Store.Release(ctx, group, claims); err != nil {
							return nil, err
						}
					}
				}
				return b.Store.Complete(ctx, group, completions, window)
			}
		}},
		{name: "completes with or without the dead letter", caught: []string{"CLAIM-6", "CLAIM-5"}, model: true, bend: func(b *bent) {
			b.complete = func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
				completions = slices.Clone(completions)
				for i := range completions {
					completions[i].Dead = nil
				}
				return b.Store.Complete(ctx, group, completions, window)
			}
		}},
		{name: "a dead letter for every completion", caught: []string{"CLAIM-5", "CLAIM-6"}, model: true, bend: func(b *bent) {
			b.complete = func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
				completions = slices.Clone(completions)
				var dead []persist.DeadLetter
				for i := range completions {
					if completions[i].Dead != nil {
						dead = append(dead, *completions[i].Dead)
						completions[i].Dead = nil
					}
				}
				done, err := b.Store.Complete(ctx, group, completions, window)
				if err != nil {
					return nil, err
				}
				return done, b.Store.AddDeadLetters(ctx, dead)
			}
		}},
		{name: "groups are one", caught: []string{"Claim"}, model: true, bend: func(b *bent) {
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				req.Group = "g"
				return b.Store.Claim(ctx, req)
			}
		}},
		{name: "joins group and key", caught: []string{"Claim"}, bend: func(b *bent) {
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				keys := req.Keys
				req.Keys = nil
				for _, key := range keys {
					req.Keys = append(req.Keys, req.Group+":"+key)
				}
				req.Group = ""
				claims, err := b.Store.Claim(ctx, req)
				for i := range claims {
					claims[i].Key = keys[i]
				}
				return claims, err
			}
		}},
		{name: "cuts long keys", caught: []string{"Claim"}, bend: func(b *bent) {
			b.claim = func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
				keys := req.Keys
				req.Keys = nil
				for _, key := range keys {
					req.Keys = append(req.Keys, key[:min(len(key), 1000)])
				}
				claims, err := b.Store.Claim(ctx, req)
				for i := range claims {
					claims[i].Key = keys[i]
				}
				return claims, err
			}
		}},
		{name: "forgets nothing", caught: []string{"CLAIM-8", "Forget"}, bend: func(b *bent) {
			b.expire = func(ctx context.Context, limit int) (int, error) {
				if limit <= 0 {
					return 0, persist.ErrInvalid
				}
				return 0, ctx.Err()
			}
			b.forget = func(ctx context.Context, _ string, _ []string) (int, error) { return 0, ctx.Err() }
		}},
		{name: "forgets what is completed", caught: []string{"CLAIM-8"}, model: true, bend: func(b *bent) {
			h := remember(b)
			b.expire = func(ctx context.Context, limit int) (int, error) {
				n, err := b.Store.ExpireProcessed(ctx, limit)
				h.mu.Lock()
				defer h.mu.Unlock()
				for key := range h.last {
					if _, err := b.Store.Forget(ctx, "g", []string{key}); err != nil {
						return 0, err
					}
				}
				return n, err
			}
		}},
		{name: "sweeps only the first keys", caught: []string{"CLAIM-8"}, bend: func(b *bent) {
			var calls atomic.Int64
			b.expire = func(ctx context.Context, limit int) (int, error) {
				if calls.Add(1) > 3 {
					return 0, nil
				}
				return b.Store.ExpireProcessed(ctx, limit)
			}
		}},
		{name: "adds the group that it is to forget keys of", caught: []string{"CLAIM-13"}, bend: func(b *bent) {
			b.forget = func(ctx context.Context, group string, keys []string) (int, error) {
				claims, err := b.Store.Claim(ctx, persist.ClaimRequest{Group: group, Keys: []string{"none of the cases'"}, Owner: "o", TTL: time.Hour})
				if err != nil {
					return 0, err
				}
				if err := b.Store.Release(ctx, group, claims); err != nil {
					return 0, err
				}
				return b.Store.Forget(ctx, group, keys)
			}
		}},
		{name: "forgets keys in work", caught: []string{"Forget"}, model: true, bend: func(b *bent) {
			h := remember(b)
			b.forget = func(ctx context.Context, group string, keys []string) (int, error) {
				n, err := b.Store.Forget(ctx, group, keys)
				for _, key := range keys {
					if err := b.Store.Release(ctx, group, []persist.Claim{h.of(persist.Claim{Key: key})}); err != nil {
						return 0, err
					}
				}
				return n, err
			}
		}},
	}
}
