package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oncemq/oncemq/persist"
)

// minWindow is the shortest window.
const minWindow = time.Second

// Claim asks for keys; see [persist.Processed].
//
// Keys in work and completed keys are two tables, and the unique index of the
// first decides who works on a key: who claims inserts a row there, who completes
// deletes it and inserts one among the completed keys. A completion may commit
// between the look at the completed keys and the insertion:
//
//	A: claims k
//	B:           looks, k is not completed
//	A:                                      completes k: it is no longer in work
//	B:                                                    inserts k
//
// So B looks again, in a later statement, which sees everything that was committed
// before the insertion could succeed, and gives k back.
func (s *Store) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	const op = "claim"
	object := groupName(req.Group)
	if req.TTL <= 0 {
		return nil, invalidTTL(op, object, req.TTL)
	}
	keys := newKeyList(len(req.Keys), func(i int) string { return req.Keys[i] })
	if keys.twice() {
		return nil, invalid(op, object, errTwice)
	}
	if err := s.enter(op); err != nil {
		return nil, err
	}
	defer s.leave()
	if len(req.Keys) == 0 {
		return nil, nil
	}
	group, err := s.group(ctx, op, req.Group)
	if err != nil {
		return nil, err
	}
	claims := make([]persist.Claim, len(req.Keys))
	places := make([]int, len(req.Keys)) // of those that are asked for, in req.Keys
	for i, key := range req.Keys {
		claims[i].Key, places[i] = key, i
	}
	for round := 0; len(places) > 0; round++ {
		asked := make([]string, len(places))
		for i, place := range places {
			asked[i] = req.Keys[place]
		}
		var a answers
		err = s.transact(ctx, op, object, writes, func() []step {
			a = answers{req: asked, keys: newKeyList(len(asked), func(i int) string { return asked[i] })}
			return append([]step{{stmt: s.q.steer}, {stmt: s.q.claimLock}}, s.claimSteps(&a, group, millis(req.TTL), req.Owner)...)
		})
		if err != nil {
			return nil, claimed(round, err)
		}
		// What others let go of just now is asked for again: it is free, and
		// only our epoch was too old for it.
		var again []int
		for i, c := range a.finish() {
			if round < claimRounds && c.State == persist.ClaimBusy && c.Remaining <= 0 {
				again = append(again, places[i])
			}
			claims[places[i]] = c
		}
		places = again
	}
	return claims, nil
}

// claimRounds is how often keys are asked for again within a call.
const claimRounds = 3

// claimed is an error of a round of claims: after the first, some of the keys may
// be ours.
func claimed(round int, err error) error {
	if round == 0 || errors.Is(err, persist.ErrUnknownOutcome) {
		return err
	}
	return fmt.Errorf("%w: some of the keys may have been claimed: %w", persist.ErrUnknownOutcome, err)
}

var errTwice = errors.New("a key occurs twice")

// claimSteps are the statements that take keys.
func (s *Store) claimSteps(a *answers, group int32, ttl int64, owner string) []step {
	q := s.q
	a.claims = make([]persist.Claim, len(a.req))
	args := []any{group, a.keys.keys, ttl, []byte(owner)}
	return []step{
		{stmt: q.claimEpoch, row: func(r row) error { return r.Scan(&a.epoch) }},
		{stmt: q.claim, args: args, row: a.granted},
		{stmt: q.claimTake, args: args, row: a.granted},
		{stmt: q.claimLook, args: []any{group, a.keys.keys}, row: a.refused},
		{stmt: q.standbyWait}, // for the keys that others have completed
	}
}

// answers are those to a claim.
type answers struct {
	req    []string
	keys   keyList
	epoch  int64
	claims []persist.Claim
	key    []byte // of the latest row
}

// granted takes a row of claim or claim_take.
func (a *answers) granted(r row) error {
	var attempts int32
	if err := r.Scan(&a.key, &attempts); err != nil {
		return err
	}
	if i, ok := a.keys.place(a.key); ok {
		a.claims[i] = persist.Claim{State: persist.ClaimGranted, Epoch: a.epoch, Attempts: int(attempts)}
	}
	return nil
}

// refused takes a row of claim_look.
func (a *answers) refused(r row) error {
	var n, epoch, left int64
	var attempts int32
	var completed, dead bool
	var owner []byte
	if err := r.Scan(&n, &completed, &dead, &epoch, &attempts, &owner, &left); err != nil {
		return err
	}
	claim := &a.claims[a.keys.places[n-1]]
	if completed {
		*claim = persist.Claim{State: persist.ClaimCompleted, Dead: dead}
		return nil
	}
	*claim = persist.Claim{
		State: persist.ClaimBusy, Owner: string(owner), Epoch: epoch, Attempts: int(attempts),
		Remaining: max(time.Duration(left)*time.Millisecond, 0),
	}
	return nil
}

// finish completes the answers.
func (a *answers) finish() []persist.Claim {
	for i, key := range a.req {
		c := &a.claims[i]
		c.Key = key
		if c.State == persist.ClaimGranted && c.Epoch == 0 {
			// Somebody had it when we asked and has let go since.
			c.State = persist.ClaimBusy
		}
	}
	return a.claims
}

// RenewClaims extends the leases of claims; see [persist.Processed].
func (s *Store) RenewClaims(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
	const op = "renew claims"
	if ttl <= 0 {
		return nil, invalidTTL(op, groupName(group), ttl)
	}
	return s.eachKey(ctx, op, group, len(claims), func(i int) *persist.Claim { return &claims[i] }, func(id int32, k *claimList) step {
		return step{stmt: s.q.claimRenew, args: []any{id, k.keys.keys, k.epochs, millis(ttl), k.attempts}, row: k.mark}
	})
}

// Release gives keys back; see [persist.Processed].
func (s *Store) Release(ctx context.Context, group string, claims []persist.Claim) error {
	_, err := s.eachKey(ctx, "release claims", group, len(claims), func(i int) *persist.Claim { return &claims[i] }, func(id int32, k *claimList) step {
		return step{stmt: s.q.claimRelease, args: []any{id, k.keys.keys, k.epochs, k.attempts}}
	})
	return err
}

// claimList is claims in the order of their keys, and what became of each.
type claimList struct {
	keys     keyList
	epochs   []int64
	attempts []int32
	done     []bool
}

// share gives a claim that is in the list twice one answer.
func (k *claimList) share() {
	same := func(i, j int) bool {
		return k.epochs[i] == k.epochs[j] && bytes.Equal(k.keys.keys[i], k.keys.keys[j])
	}
	for i := 1; i < len(k.epochs); i++ {
		if same(i-1, i) && k.done[k.keys.places[i-1]] {
			k.done[k.keys.places[i]] = true
		}
	}
	for i := len(k.epochs) - 1; i > 0; i-- {
		if same(i-1, i) && k.done[k.keys.places[i]] {
			k.done[k.keys.places[i-1]] = true
		}
	}
}

// mark takes a row with a place.
func (k *claimList) mark(r row) error {
	var n int64
	err := r.Scan(&n)
	if err == nil {
		k.done[k.keys.places[n-1]] = true
	}
	return err
}

// eachKey does one thing with each of many claims.
func (s *Store) eachKey(ctx context.Context, op, group string, n int, claim func(i int) *persist.Claim,
	build func(id int32, k *claimList) step,
) ([]bool, error) {
	if err := s.enter(op); err != nil {
		return nil, err
	}
	defer s.leave()
	if n == 0 {
		return nil, nil
	}
	id, err := s.group(ctx, op, group)
	if err != nil {
		return nil, err
	}
	k := &claimList{keys: newKeyList(n, func(i int) string { return claim(i).Key }), epochs: make([]int64, n), attempts: make([]int32, n), done: make([]bool, n)}
	for i, place := range k.keys.places {
		k.epochs[i], k.attempts[i] = claim(place).Epoch, int32(max(0, claim(place).Attempts))
	}
	err = s.transact(ctx, op, groupName(group), writes, func() []step {
		clear(k.done)
		return []step{{stmt: s.q.steer}, build(id, k)}
	})
	if err != nil {
		return nil, err
	}
	k.share()
	return k.done, nil
}

// Complete marks keys as processed; see [persist.Processed].
func (s *Store) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	const op = "complete"
	if err := checkWindow(op, group, window); err != nil {
		return nil, err
	}
	letters := false
	for i := range completions {
		if dead := completions[i].Dead; dead != nil {
			letters = true
			if err := checkLetter(dead); err != nil {
				return nil, invalid(op, groupName(group), err)
			}
		}
	}
	complete := func(marked bool) ([]bool, error) {
		return s.eachKey(ctx, op, group, len(completions), func(i int) *persist.Claim { return &completions[i].Claim }, func(id int32, k *claimList) step {
			args := []any{id, k.keys.keys, k.epochs, millis(window), int64(len(completions))}
			if letters || marked {
				return step{stmt: s.q.completeDead, args: append(args, lettersOf(completions, k)...), row: k.mark}
			}
			return step{stmt: s.q.complete, args: args, row: k.mark}
		})
	}
	done, err := complete(false)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == codeUnique && !letters {
		done, err = complete(true)
	}
	return done, err
}

// lettersOf are the dead letters of completions as parameters, in the caller's order.
func lettersOf(completions []persist.Completion, k *claimList) []any {
	places := []int64{} // not NULL
	var list letterList
	sorted := make([]int64, len(completions)) // where each stands among the keys
	for i, place := range k.keys.places {
		sorted[place] = int64(i + 1)
	}
	for i := range completions {
		if dead := completions[i].Dead; dead != nil {
			places = append(places, sorted[i])
			list.add(dead)
		}
	}
	return append([]any{places}, list.args()...)
}

// Forget removes completed keys; see [persist.Processed]. It waits for the claims that
// are under way, but not for long: a claim of a key that a handler has in work in a
// transaction takes until that ends, and the error wraps [persist.ErrUnavailable] then.
func (s *Store) Forget(ctx context.Context, group string, keys []string) (int, error) {
	const op = "forget"
	if err := s.enter(op); err != nil {
		return 0, err
	}
	defer s.leave()
	if len(keys) == 0 {
		return 0, nil
	}
	// It is not added: one that never claimed has no keys [CLAIM-13].
	id, known := int32(0), false
	err := s.transact(ctx, op, groupName(group), reads, func() []step {
		return []step{{stmt: s.q.groupGet, args: []any{storedKey(group)}, row: func(r row) error {
			known = true
			return r.Scan(&id)
		}}}
	})
	if err != nil || !known {
		return 0, err
	}
	list := newKeyList(len(keys), func(i int) string { return keys[i] })
	var forgotten int64
	err = s.transact(ctx, op, groupName(group), writes, func() []step {
		return append(s.forgetting(forgetPatience), step{stmt: s.q.claimForget, args: []any{id, list.keys}, row: func(r row) error {
			return r.Scan(&forgotten)
		}})
	})
	if err != nil {
		return 0, err
	}
	return int(forgotten), nil
}

// forgetPatience is how long a transaction that forgets keys waits for the claims that
// are under way, and for rows that others hold. Whoever claims waits behind it; and a
// claim of a key that a handler has in work, in a transaction, takes as long as that.
const forgetPatience = time.Second

// forgetting are the first statements of a transaction that forgets keys.
func (s *Store) forgetting(patience time.Duration) []step {
	return []step{{stmt: s.q.steer}, {stmt: s.q.lockPatience, args: []any{patience.Milliseconds()}}, {stmt: s.q.forgetLock}}
}

func checkWindow(op, group string, window time.Duration) error {
	if window >= minWindow {
		return nil
	}
	return invalid(op, groupName(group), errors.New("window is "+window.String()+", must be at least "+minWindow.String()))
}
