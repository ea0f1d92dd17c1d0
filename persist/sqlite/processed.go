package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/persist"
)

// maxKeyBytes is up to which length a dedup key is stored as it is. Of a longer
// one its SHA-256 is stored in its stead.
const maxKeyBytes = 64

// uncompletedFor is how long after its lease a key that nobody completed is
// remembered: it carries the attempts, which count across redeliveries.
const uncompletedFor = 24 * time.Hour

// minWindow is the shortest window.
const minWindow = time.Second

// storedKey is what stands for a dedup key in the table: text, or a hash, which
// is a BLOB and so never equal to a text.
func storedKey(key string) any {
	if len(key) <= maxKeyBytes {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// Claim asks for keys; see [persist.Processed].
func (s *Store) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	const op = "claim"
	if req.TTL <= 0 {
		return nil, invalidTTL(op, groupName(req.Group), req.TTL)
	}
	if len(req.Keys) == 0 {
		return nil, nil
	}
	if err := checkKeys(op, req.Group, req.Keys); err != nil {
		return nil, err
	}
	group, err := s.group(ctx, op, req.Group)
	if err != nil {
		return nil, err
	}
	t := &claimTask{call: newCall(op, groupName(req.Group), len(req.Keys)), group: group, req: req}
	t.leaseOnly = true
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	return t.claims, nil
}

// checkKeys refuses keys among which one occurs twice.
func checkKeys(op, group string, keys []string) error {
	if len(keys) < 2 {
		return nil
	}
	seen := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		seen[key] = struct{}{}
	}
	if len(seen) < len(keys) {
		return &persist.Error{Op: op, Object: groupName(group), Kind: persist.ErrInvalid, Err: errors.New("a key occurs twice")}
	}
	return nil
}

// claimTask is one call of Claim.
type claimTask struct {
	call
	group  int64
	req    persist.ClaimRequest
	claims []persist.Claim
	args   []any
}

func (t *claimTask) run(ctx context.Context, tx *txn) error {
	epoch, err := nextClaimEpoch(ctx, tx)
	if err != nil {
		return err
	}
	if t.claims == nil {
		t.claims = make([]persist.Claim, len(t.req.Keys))
	}
	for i, key := range t.req.Keys {
		t.claims[i] = persist.Claim{Key: key, State: persist.ClaimGranted, Epoch: epoch, Attempts: 1}
	}
	until := tx.now + millis(t.req.TTL)
	return tx.q.insertClaims.each(len(t.claims), func(stmt *statement, from, to int) error {
		t.args = append(t.args[:0], t.group, epoch, t.req.Owner, until)
		for _, key := range t.req.Keys[from:to] {
			t.args = append(t.args, storedKey(key))
		}
		added, err := tx.exec(ctx, stmt, t.args...)
		tx.keys.moved(keyAbsent, keyInWork, added)
		if err != nil || added == int64(to-from) {
			return err
		}
		// Some keys are known: look at each. Those that were added have our
		// epoch.
		for i := from; i < to; i++ {
			if err := t.look(ctx, tx, &t.claims[i], until); err != nil {
				return err
			}
		}
		return nil
	})
}

// look answers a claim of a key that may be known.
func (t *claimTask) look(ctx context.Context, tx *txn, claim *persist.Claim, until int64) error {
	known, err := getKey(ctx, tx, t.group, claim.Key)
	if err != nil || known.epoch == claim.Epoch {
		return err
	}
	if !known.decide(tx.now, claim) {
		return nil
	}
	return putKey(ctx, tx, t.group, known, claim, keyInWork, t.req.Owner, until)
}

// knownKey is a row of the processed keys.
type knownKey struct {
	found                         bool
	state, epoch, until, attempts int64
	owner                         string
}

func getKey(ctx context.Context, tx *txn, group int64, key string) (k knownKey, err error) {
	var dest [5]driver.Value
	k.found, err = queryRow(ctx, tx, dest[:], tx.q.claimGet, group, storedKey(key))
	k.state, k.epoch, k.until, k.attempts = asInt(dest[0]), asInt(dest[1]), asInt(dest[2]), asInt(dest[3])
	k.owner = asText(dest[4])
	return k, err
}

// putKey stores what was granted in place of what is known.
func putKey(ctx context.Context, tx *txn, group int64, known knownKey, claim *persist.Claim, state int64, owner any, until int64) error {
	_, err := tx.exec(ctx, tx.q.claimPut, group, storedKey(claim.Key), state, claim.Epoch, owner, until, int64(claim.Attempts))
	if err != nil {
		return err
	}
	from := int64(keyAbsent)
	if known.found {
		from = known.state
	}
	tx.keys.moved(from, state, 1)
	return nil
}

// decide fills in the answer to a claim and tells whether it is granted.
func (k knownKey) decide(now int64, claim *persist.Claim) bool {
	live := k.found && k.until > now
	switch {
	case live && (k.state == keyCompleted || k.state == keyDead):
		*claim = persist.Claim{Key: claim.Key, State: persist.ClaimCompleted, Dead: k.state == keyDead}
		return false
	case live && k.state == keyInWork:
		*claim = persist.Claim{
			Key: claim.Key, State: persist.ClaimBusy,
			Owner: k.owner, Epoch: k.epoch, Attempts: int(k.attempts),
			Remaining: time.Duration(k.until-now) * time.Millisecond,
		}
		return false
	}
	claim.State = persist.ClaimGranted
	claim.Attempts = 1
	if k.found && (k.state == keyInWork || k.state == keyReleased) {
		claim.Attempts += int(k.attempts)
	}
	return true
}

// nextClaimEpoch is higher than all before it.
func nextClaimEpoch(ctx context.Context, tx *txn) (int64, error) {
	var dest [1]driver.Value
	_, err := queryRow(ctx, tx, dest[:], tx.q.claimEpoch)
	return asInt(dest[0]), err
}

// RenewClaims extends the leases of claims; see [persist.Processed].
func (s *Store) RenewClaims(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
	const op = "renew claims"
	if ttl <= 0 {
		return nil, invalidTTL(op, groupName(group), ttl)
	}
	t := &keysTask{kind: renewKeys, claims: claims, until: ttl}
	t.call = newCall(op, groupName(group), len(claims))
	t.leaseOnly = true
	return s.submitKeys(ctx, group, t)
}

// Complete marks keys as processed; see [persist.Processed].
func (s *Store) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	const op = "complete"
	if err := checkWindow(op, group, window); err != nil {
		return nil, err
	}
	for i := range completions {
		if dead := completions[i].Dead; dead != nil {
			if err := checkLetter(dead); err != nil {
				return nil, &persist.Error{Op: op, Object: groupName(group), Kind: persist.ErrInvalid, Err: err}
			}
		}
	}
	t := &keysTask{kind: completeKeys, completions: completions, until: window}
	t.call = newCall(op, groupName(group), len(completions))
	return s.submitKeys(ctx, group, t)
}

// Release gives keys back; see [persist.Processed].
func (s *Store) Release(ctx context.Context, group string, claims []persist.Claim) error {
	t := &keysTask{kind: releaseKeys, claims: claims}
	t.call = newCall("release claims", groupName(group), len(claims))
	t.leaseOnly = true
	_, err := s.submitKeys(ctx, group, t)
	return err
}

// Forget removes completed keys; see [persist.Processed].
func (s *Store) Forget(ctx context.Context, group string, keys []string) (int, error) {
	t := &keysTask{kind: forgetKeys, keys: keys}
	t.call = newCall("forget", groupName(group), len(keys))
	done, err := s.submitKeys(ctx, group, t)
	n := 0
	for _, ok := range done {
		if ok {
			n++
		}
	}
	return n, err
}

func (s *Store) submitKeys(ctx context.Context, group string, t *keysTask) (_ []bool, err error) {
	if t.rows == 0 {
		return nil, nil
	}
	if id, ok := s.groups.Load(group); ok {
		t.group = id.(int64)
	} else {
		// It is not added: one that never claimed has no keys [CLAIM-13].
		t.name, t.lookUp = group, true
	}
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	if t.lookUp && t.group != 0 {
		s.groups.Store(group, t.group)
	}
	return t.done, nil
}

type keysKind int

const (
	renewKeys keysKind = iota
	completeKeys
	releaseKeys
	forgetKeys
)

// keysTask does one thing with each of many keys.
type keysTask struct {
	call
	kind   keysKind
	group  int64 // zero for one that is not known
	name   string
	lookUp bool          // the group by its name
	until  time.Duration // from now
	// One of these, by kind.
	claims      []persist.Claim
	completions []persist.Completion
	keys        []string

	done []bool
}

func (t *keysTask) run(ctx context.Context, tx *txn) error {
	if t.done == nil {
		t.done = make([]bool, t.rows)
	}
	if t.lookUp {
		var dest [1]driver.Value
		if _, err := queryRow(ctx, tx, dest[:], tx.q.groupGet, t.name); err != nil {
			return err
		}
		if t.group = asInt(dest[0]); t.group == 0 {
			clear(t.done)
			return nil
		}
	}
	until := tx.now + millis(t.until)
	for i := range t.done {
		var err error
		switch t.kind {
		case renewKeys:
			c := &t.claims[i]
			t.done[i], err = changes(tx.exec(ctx, tx.q.claimRenew, t.group, storedKey(c.Key), c.Epoch, until, int64(max(0, c.Attempts))))
		case releaseKeys:
			c := &t.claims[i]
			t.done[i], err = changes(tx.exec(ctx, tx.q.claimRelease, t.group, storedKey(c.Key), c.Epoch, int64(max(0, c.Attempts))))
			if t.done[i] {
				tx.keys.moved(keyInWork, keyReleased, 1)
			}
		case completeKeys:
			t.done[i], err = t.complete(ctx, tx, &t.completions[i], until)
		case forgetKeys:
			var dest [1]driver.Value
			t.done[i], err = queryRow(ctx, tx, dest[:], tx.q.claimForget, t.group, storedKey(t.keys[i]))
			if t.done[i] {
				tx.keys.moved(keyCompleted, keyAbsent, 1)
			}
			t.done[i] = t.done[i] && asInt(dest[0]) > tx.now
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// complete marks one key, and stores its dead letter with it [CLAIM-6].
func (t *keysTask) complete(ctx context.Context, tx *txn, c *persist.Completion, until int64) (bool, error) {
	first, state := true, int64(keyCompleted)
	if failpoint.Mutant(failpoint.EpochUnchecked) {
		known, err := getKey(ctx, tx, t.group, c.Claim.Key)
		if err != nil {
			return false, err
		}
		unchecked := *c
		unchecked.Claim.Epoch = known.epoch
		c = &unchecked
	}
	if c.Dead != nil {
		state = keyDead
		// Done twice with one claim, the letter is stored once.
		known, err := getKey(ctx, tx, t.group, c.Claim.Key)
		if err != nil {
			return false, err
		}
		first = known.state == keyInWork
	}
	args := []any{t.group, storedKey(c.Claim.Key), c.Claim.Epoch, until, state}
	done, err := changes(tx.exec(ctx, tx.q.claimComplete, args...))
	switch {
	case done:
		tx.keys.moved(keyInWork, state, 1)
	case err == nil:
		done, err = changes(tx.exec(ctx, tx.q.claimCompleteAgain, args...))
	}
	if err == nil && done && first && c.Dead != nil {
		err = addDeadLetter(ctx, tx, c.Dead)
	}
	return done, err
}

// changes tells whether a statement changed something.
func changes(n int64, err error) (bool, error) { return n > 0, err }

// ExpireProcessed forgets keys; see [persist.Processed]. It goes through the
// table in the order of its primary key, and the place where it stopped is kept
// in the store, so that short-lived processes get round as well.
func (s *Store) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	const op = "expire keys"
	if limit <= 0 {
		return 0, &persist.Error{Op: op, Object: s.name, Kind: persist.ErrInvalid, Err: fmt.Errorf("limit is %d, must be positive", limit)}
	}
	t := &sweepTask{call: newCall(op, s.name, limit), limit: limit}
	t.leaseOnly = true // what comes back after a loss of power is swept again
	err := s.submit(ctx, t)
	return t.forgotten, err
}

// sweepTask is one call of ExpireProcessed.
type sweepTask struct {
	call
	limit     int
	forgotten int
}

func (t *sweepTask) run(ctx context.Context, tx *txn) error {
	var from, to [2]driver.Value
	if _, err := queryRow(ctx, tx, from[:], tx.q.sweepFrom); err != nil {
		return err
	}
	uncompleted := tx.now - uncompletedFor.Milliseconds()
	more, err := queryRow(ctx, tx, to[:], tx.q.sweepEnd, from[0], from[1], int64(t.limit-1))
	if err != nil {
		return err
	}
	var rows driver.Rows
	if more {
		rows, err = tx.query(ctx, tx.q.sweepDelete, from[0], from[1], to[0], to[1], tx.now, uncompleted)
	} else {
		rows, err = tx.query(ctx, tx.q.sweepDeleteRest, from[0], from[1], tx.now, uncompleted)
		to = [2]driver.Value{int64(0), ""}
	}
	t.forgotten = 0
	var state [1]driver.Value
	err = eachRow(rows, err, state[:], func() error {
		t.forgotten++
		tx.keys.moved(asInt(state[0]), keyAbsent, 1)
		return nil
	})
	if err != nil || to == from {
		return err
	}
	_, err = tx.exec(ctx, tx.q.sweepSave, to[0], to[1])
	return err
}

func checkWindow(op, group string, window time.Duration) error {
	if window >= minWindow {
		return nil
	}
	return &persist.Error{
		Op: op, Object: groupName(group), Kind: persist.ErrInvalid,
		Err: errors.New("window is " + window.String() + ", must be at least " + minWindow.String()),
	}
}
