package redis

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// minWindow is the shortest window.
const minWindow = time.Second

func groupName(name string) string { return "group " + name }

// groupOf are the keys of a group.
func (s *Store) groupOf(name string) *groupKeys {
	if g, ok := s.groups.Load(name); ok {
		return g.(*groupKeys)
	}
	g := s.keys.group(hashed(name))
	known, _ := s.groups.LoadOrStore(name, &g)
	return known.(*groupKeys)
}

// bucketed are dedup keys in the order of their buckets, so that a script visits
// each bucket once.
type bucketed struct {
	names  []string // of the buckets, after those given
	counts []any    // how many of the keys are in each
	fields []string
	places []int // of each in the caller's order
}

func inBuckets(g *groupKeys, names []string, n int, key func(i int) string) bucketed {
	type spot struct {
		bucket uint32
		place  int
		field  string
	}
	spots := make([]spot, n)
	for i := range spots {
		field := fieldOf(key(i))
		spots[i] = spot{bucketOf(field), i, field}
	}
	slices.SortStableFunc(spots, func(a, b spot) int { return cmp.Compare(a.bucket, b.bucket) })
	k := bucketed{names: names, fields: make([]string, n), places: make([]int, n)}
	count := 0
	for i, s := range spots {
		k.fields[i], k.places[i] = s.field, s.place
		count++
		if i == n-1 || spots[i+1].bucket != s.bucket {
			k.names, k.counts = append(k.names, g.bucket(s.bucket)), append(k.counts, count)
			count = 0
		}
	}
	return k
}

// Claim asks for keys; see [persist.Processed].
func (s *Store) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	const op = "claim"
	object := groupName(req.Group)
	if req.TTL <= 0 {
		return nil, invalidTTL(op, object, req.TTL)
	}
	if len(req.Keys) == 0 {
		return nil, nil
	}
	seen := make(map[string]struct{}, len(req.Keys))
	for _, key := range req.Keys {
		seen[key] = struct{}{}
	}
	if len(seen) < len(req.Keys) {
		return nil, invalid(op, object, "a key occurs twice")
	}
	g := s.groupOf(req.Group)
	k := inBuckets(g, []string{s.keys.totals, s.keys.groups, g.work}, len(req.Keys), func(i int) string { return req.Keys[i] })
	args := make([]any, 0, 4+len(k.counts)+len(k.fields))
	args = append(append(args, g.number, req.Group, req.Owner, millis(req.TTL)), k.counts...)
	for _, field := range k.fields {
		args = append(args, field)
	}
	answer, err := s.do(ctx, op, object, s.run.claim, k.names, args...)
	if err != nil {
		return nil, err
	}
	f := asList(answer)
	if len(f) == 0 {
		return nil, strange(op, object)
	}
	claims := make([]persist.Claim, len(req.Keys))
	for i, key := range req.Keys {
		claims[i] = persist.Claim{Key: key, State: persist.ClaimGranted, Epoch: asInt(f[0]), Attempts: 1}
	}
	for _, other := range f[1:] {
		row := asList(other)
		i := asInt(at(row, 0)) - 1
		if i < 0 || i >= int64(len(claims)) {
			return nil, strange(op, object)
		}
		readClaim(&claims[k.places[i]], row)
	}
	return claims, nil
}

// The answers of claim.lua.
const (
	luaCompleted = 1
	luaBusy      = 2
)

// readClaim reads the answer for a key that was not simply granted.
func readClaim(c *persist.Claim, row []any) {
	switch asInt(at(row, 1)) {
	case luaCompleted:
		*c = persist.Claim{Key: c.Key, State: persist.ClaimCompleted, Dead: asInt(at(row, 2)) == 1}
	case luaBusy:
		*c = persist.Claim{
			Key: c.Key, State: persist.ClaimBusy, Epoch: asInt(at(row, 2)), Attempts: int(asInt(at(row, 3))),
			Remaining: time.Duration(asInt(at(row, 4))) * time.Millisecond, Owner: asText(at(row, 5)),
		}
	default:
		c.Attempts = int(asInt(at(row, 2)))
	}
}

// claimArgs are field, epoch and attempts of claims, after those given.
func claimArgs(args []any, claims []persist.Claim) []any {
	for i := range claims {
		args = append(args, fieldOf(claims[i].Key), claims[i].Epoch, max(0, claims[i].Attempts))
	}
	return args
}

// RenewClaims extends the leases of claims; see [persist.Processed].
func (s *Store) RenewClaims(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
	const op = "renew claims"
	object := groupName(group)
	if ttl <= 0 {
		return nil, invalidTTL(op, object, ttl)
	}
	if len(claims) == 0 {
		return nil, nil
	}
	args := claimArgs(append(make([]any, 0, 1+3*len(claims)), millis(ttl)), claims)
	answer, err := s.do(ctx, op, object, s.run.claimRenew, []string{s.groupOf(group).work}, args...)
	if err != nil {
		return nil, err
	}
	return flags(op, object, asList(answer), len(claims))
}

// Complete marks keys as processed; see [persist.Processed].
func (s *Store) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	const op = "complete"
	object := groupName(group)
	if window < minWindow {
		return nil, invalid(op, object, "window is %s, must be at least %s", window, minWindow)
	}
	letters := 0
	for i := range completions {
		if dead := completions[i].Dead; dead != nil {
			if err := checkLetter(dead); err != nil {
				return nil, &persist.Error{Op: op, Object: object, Kind: persist.ErrInvalid, Err: err}
			}
			letters++
		}
	}
	if len(completions) == 0 {
		return nil, nil
	}
	g := s.groupOf(group)
	k := inBuckets(g, []string{s.keys.totals, g.work, g.used, s.keys.dead, s.keys.fates},
		len(completions), func(i int) string { return completions[i].Claim.Key })
	args := make([]any, 0, 2+15*letters+len(k.counts)+2*len(completions))
	args = append(args, millis(window), letters)
	if letters > 0 { // numbered in the caller's order
		sorted := make([]int, len(completions))
		for i, place := range k.places {
			sorted[place] = i + 1
		}
		for i := range completions {
			if dead := completions[i].Dead; dead != nil {
				args = letterArgs(append(args, sorted[i]), dead)
			}
		}
	}
	args = append(args, k.counts...)
	for i, place := range k.places {
		args = append(args, k.fields[i], completions[place].Claim.Epoch)
	}
	answer, err := s.do(ctx, op, object, s.run.complete, k.names, args...)
	if err != nil {
		return nil, err
	}
	sorted, err := flags(op, object, asList(answer), len(completions))
	if err != nil {
		return nil, err
	}
	done := make([]bool, len(sorted))
	for i, place := range k.places {
		done[place] = sorted[i]
	}
	return done, nil
}

// Release gives keys back; see [persist.Processed].
func (s *Store) Release(ctx context.Context, group string, claims []persist.Claim) error {
	if len(claims) == 0 {
		return nil
	}
	args := claimArgs(make([]any, 0, 3*len(claims)), claims)
	_, err := s.do(ctx, "release claims", groupName(group), s.run.claimRelease, []string{s.groupOf(group).work, s.keys.totals}, args...)
	return err
}

// Forget removes completed keys; see [persist.Processed].
func (s *Store) Forget(ctx context.Context, group string, keys []string) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	k := inBuckets(s.groupOf(group), []string{s.keys.totals}, len(keys), func(i int) string { return keys[i] })
	args := append(make([]any, 0, len(k.counts)+len(k.fields)), k.counts...)
	for _, field := range k.fields {
		args = append(args, field)
	}
	answer, err := s.do(ctx, "forget", groupName(group), s.run.forget, k.names, args...)
	return int(asInt(answer)), err
}
