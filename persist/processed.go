package persist

import (
	"context"
	"time"
)

// ClaimState is the answer to a claim.
type ClaimState uint8

// The answers to a claim.
const (
	// ClaimGranted: the key is the caller's until the lease ends.
	ClaimGranted ClaimState = iota
	// ClaimCompleted: the key was completed within its window; the message is
	// a duplicate.
	ClaimCompleted
	// ClaimBusy: the key is in work elsewhere.
	ClaimBusy
)

// Claim is one key's answer, and the proof of holding it.
type Claim struct {
	Key   string
	State ClaimState
	// Dead tells of a completed key that it ended with a dead letter [CLAIM-10].
	Dead bool
	// Epoch is the fencing token of a granted claim. It is higher than that of
	// every earlier claim of the key in the group [CLAIM-3], even if the key
	// was forgotten in between: a replica may sleep longer than any window.
	Epoch int64
	// Attempts is how often the key was claimed without completion, this time
	// included: 1 for a first claim. RenewClaims and Release record what the claim
	// given to them says [CLAIM-11], so that its holder can tell a claim that was
	// only held from one whose work was begun.
	Attempts int
	// Remaining is, for a busy key, what is left of the other's lease.
	Remaining time.Duration
	// Owner is, for a busy key, the Owner of the request that claimed it, and
	// Epoch and Attempts are that claim's. A caller whose Owner is unique to its
	// process thereby recognises a claim of its own whose answer was lost, and
	// need not wait for the lease to end. Optional: a store that cannot tell
	// leaves all three zero.
	Owner string
}

// ClaimRequest asks for keys.
type ClaimRequest struct {
	// Group scopes the keys: groups do not see each other's.
	Group string
	// Owner names the claiming process, for operators; it proves nothing.
	Owner string
	// TTL is how long the lease lasts unless it is renewed.
	TTL time.Duration
	// Keys are the dedup keys; none may occur twice.
	Keys []string
}

// Completion marks one claimed key as processed.
type Completion struct {
	Claim Claim
	// Dead, if set, is stored as a dead letter in the same step [CLAIM-6].
	Dead *DeadLetter
}

// Processed is the set of keys that a group of replicas works on or has
// completed.
type Processed interface {
	// Claim asks for keys, and answers one by one in the order of req.Keys.
	//
	//  [CLAIM-1] A key that is completed within its window is answered
	//  ClaimCompleted, to everybody.
	//  [CLAIM-2] A key whose lease has not ended is answered ClaimBusy, to its
	//  owner as well: two deliveries in one process are two deliveries.
	//  [CLAIM-4] Otherwise the key is granted, to one caller.
	Claim(ctx context.Context, req ClaimRequest) ([]Claim, error)

	// RenewClaims extends the leases of claims to ttl from now and tells for
	// each whether it is still the caller's: neither taken over, released nor
	// completed. The attempts of such a key become those of the claim [CLAIM-11]: the
	// next claim of it counts one more.
	RenewClaims(ctx context.Context, group string, claims []Claim, ttl time.Duration) ([]bool, error)

	// Complete marks keys as processed for window from now, and tells for each
	// whether that was done. A claim whose epoch is no longer the key's is
	// refused and changes nothing [CLAIM-5], and so is one that was released; a
	// lease that ended but was not taken over is still good. Completing again
	// with the same claim, after an unknown outcome for one, is answered true
	// again and stores the dead letter once. Window must be at least a second.
	Complete(ctx context.Context, group string, completions []Completion, window time.Duration) ([]bool, error)

	// Release gives keys back, so that others may claim them at once
	// [CLAIM-7]. Claims that are no longer held are ignored. Attempts, which become
	// those of the claim [CLAIM-11], are remembered for as long as the lease would
	// have lasted, at least.
	Release(ctx context.Context, group string, claims []Claim) error

	// ExpireProcessed forgets keys whose window has closed [CLAIM-8], looking
	// at no more than limit keys, and tells how many it forgot. Called now and
	// then by every consumer, it visits all keys in turn; a key beyond its
	// window counts as absent in Claim even before it is forgotten. Keys that
	// were never completed are forgotten and counted as well: released ones
	// once their lease would have ended, abandoned ones no earlier than a day
	// after it did.
	ExpireProcessed(ctx context.Context, limit int) (forgotten int, err error)

	// Forget removes completed keys of the group, as if their window had
	// closed, and tells how many there were. Keys in work stay. A group that has
	// never claimed has none, and is not known for it afterwards [CLAIM-13].
	Forget(ctx context.Context, group string, keys []string) (forgotten int, err error)
}
