package dedup

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// fault is what happens to one call of a store.
type fault uint8

const (
	faultNone    fault = iota
	faultFail          // nothing is done; the error says so
	faultApplied       // it is done, and the error says that nobody knows
	faultUnknown       // nothing is done, and the error says that nobody knows
	faultHang          // nothing is done, and the call lasts until its context ends
	faultRefuse        // nothing is done; the error blames an argument
)

// faulty is a store whose calls fail as a function says.
type faulty struct {
	Store
	// decide is called before each call, with the operation and the keys that
	// it is about; it may block. Guarded by mu.
	decide func(op string, keys []string) fault
	// after is called when a call was done, before its answer is given.
	// Guarded by mu.
	after func(op string)
	// owners, if set, makes Claim name the owner of a busy key, as a store may.
	// Faulty stores over one store share it.
	owners *owners

	mu    sync.Mutex
	calls map[string]int
	sizes map[string][]int
}

// owners is who was granted each key last.
type owners struct {
	mu    sync.Mutex
	claim map[string]persist.Claim
}

func newOwners() *owners { return &owners{claim: map[string]persist.Claim{}} }

// ask claims, and notes and tells the owners in one step with it.
func (o *owners) ask(ctx context.Context, store Store, req persist.ClaimRequest) ([]persist.Claim, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	answers, err := store.Claim(ctx, req)
	for i := range answers {
		switch c := &answers[i]; c.State {
		case persist.ClaimGranted:
			held := *c
			held.Owner = req.Owner
			o.claim[c.Key] = held
		case persist.ClaimBusy:
			held := o.claim[c.Key]
			c.Owner, c.Epoch, c.Attempts = held.Owner, held.Epoch, held.Attempts
		case persist.ClaimCompleted:
		}
	}
	return answers, err
}

func newFaulty(store Store) *faulty {
	return &faulty{Store: store, calls: map[string]int{}, sizes: map[string][]int{}}
}

func (f *faulty) setDecide(decide func(op string, keys []string) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

func (f *faulty) setAfter(after func(op string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = after
}

func (f *faulty) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// run does one call.
func (f *faulty) run(ctx context.Context, op string, keys []string, do func() error) error {
	f.mu.Lock()
	f.calls[op]++
	f.sizes[op] = append(f.sizes[op], len(keys))
	decide, after := f.decide, f.after
	f.mu.Unlock()
	if after != nil {
		defer after(op)
	}
	what := faultNone
	if decide != nil {
		what = decide(op, keys)
	}
	switch what {
	case faultFail:
		return &persist.Error{Op: op, Kind: persist.ErrUnavailable}
	case faultUnknown:
		return &persist.Error{Op: op, Kind: persist.ErrUnknownOutcome}
	case faultRefuse:
		return &persist.Error{Op: op, Kind: persist.ErrInvalid}
	case faultHang:
		<-ctx.Done()
		return fmt.Errorf("%s: %w", op, ctx.Err())
	case faultApplied:
		if err := do(); err != nil {
			return err
		}
		return &persist.Error{Op: op, Kind: persist.ErrUnknownOutcome}
	case faultNone:
	}
	return do()
}

func (f *faulty) Claim(ctx context.Context, req persist.ClaimRequest) (claims []persist.Claim, err error) {
	err = f.run(ctx, "claim", req.Keys, func() error {
		if f.owners != nil {
			claims, err = f.owners.ask(ctx, f.Store, req)
		} else {
			claims, err = f.Store.Claim(ctx, req)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return claims, nil
}

func claimKeys(claims []persist.Claim) []string {
	keys := make([]string, len(claims))
	for i := range claims {
		keys[i] = claims[i].Key
	}
	return keys
}

func (f *faulty) RenewClaims(
	ctx context.Context, group string, claims []persist.Claim, ttl time.Duration,
) (held []bool, err error) {
	err = f.run(ctx, "renew", claimKeys(claims), func() error {
		held, err = f.Store.RenewClaims(ctx, group, claims, ttl)
		return err
	})
	return held, err
}

func (f *faulty) Complete(
	ctx context.Context, group string, completions []persist.Completion, window time.Duration,
) (done []bool, err error) {
	keys := make([]string, len(completions))
	for i := range completions {
		keys[i] = completions[i].Claim.Key
	}
	err = f.run(ctx, "complete", keys, func() error {
		done, err = f.Store.Complete(ctx, group, completions, window)
		return err
	})
	return done, err
}

func (f *faulty) Release(ctx context.Context, group string, claims []persist.Claim) error {
	return f.run(ctx, "release", claimKeys(claims), func() error {
		return f.Store.Release(ctx, group, claims)
	})
}

func (f *faulty) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	return f.run(ctx, "letters", make([]string, len(letters)), func() error {
		return f.Store.AddDeadLetters(ctx, letters)
	})
}

func (f *faulty) Time(ctx context.Context) (now time.Time, err error) {
	err = f.run(ctx, "time", nil, func() error {
		now, err = f.Store.Time(ctx)
		return err
	})
	return now, err
}

func (f *faulty) ExpireProcessed(ctx context.Context, limit int) (forgotten int, err error) {
	err = f.run(ctx, "expire", nil, func() error {
		forgotten, err = f.Store.ExpireProcessed(ctx, limit)
		return err
	})
	return forgotten, err
}
