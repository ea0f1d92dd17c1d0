package persisttest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// What one history of RunLinearizable consists of. Each client calls so often;
// a call is about one to three of the keys, and the work of a key stays small
// enough to be checked.
const (
	linearClients = 8
	linearCalls   = 60
	linearKeys    = 8
	linearCheck   = time.Minute
)

// RunLinearizable lets several clients, with handles of their own where there
// may be several, claim, renew, complete, release and forget the same keys at
// the same time, while leases end and answers are lost; then it demands that
// some order of the calls, each within the time that it took, explains every
// answer. A call whose outcome is unknown may have happened at any later time,
// or never.
func RunLinearizable(t *testing.T, h Harness) {
	t.Helper()
	runLinearizable(t, h, time.Now().UnixNano())
}

// runLinearizable is RunLinearizable for anything that takes reports. The seed
// decides what is called; how calls interleave nobody decides.
func runLinearizable(t T, h Harness, seed int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	e := &env{T: t, h: h, ctx: ctx, backend: h.New(t, Options{Lanes: 1})}
	e.store = e.open()
	rec := &recording{begun: time.Now()}
	var clients sync.WaitGroup
	for id := range linearClients {
		c := &linearClient{
			rec: rec, id: id, rng: rand.New(rand.NewPCG(uint64(seed), uint64(id))), //nolint:gosec // a history that can be repeated
		}
		c.store, c.faults = NewFaulty(e.handle())
		clients.Go(func() { c.run(ctx) })
	}
	over := make(chan struct{})
	go func() { clients.Wait(); close(over) }()
	// Short leases end now and then.
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for running, n := true, 0; running; n++ {
		select {
		case <-over:
			running = false
		case <-tick.C:
			if n%4 == 0 {
				e.advance(2 * shortLease)
			}
		}
	}
	require.Empty(t, rec.errs)
	result := porcupine.CheckOperationsTimeout(claimModel(), rec.operations, linearCheck)
	require.NotEqual(t, porcupine.Illegal, result, "no order of the calls explains their answers; seed %d", seed)
	require.Equal(t, porcupine.Ok, result, "the history could not be checked in %s; seed %d", linearCheck, seed)
}

// Leases are short, and end at any time as far as the model knows, or do not end
// at all.
const (
	shortLease = time.Minute
	longLease  = 10_000 * time.Hour
)

// recording is the history.
type recording struct {
	begun time.Time

	mu         sync.Mutex // guards the rest
	operations []porcupine.Operation
	errs       []error
}

// never is when a call returned whose outcome is unknown: it may happen yet.
const never = math.MaxInt64

func (r *recording) now() int64 { return int64(time.Since(r.begun)) }

func (r *recording) add(operations []porcupine.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations = append(r.operations, operations...)
}

func (r *recording) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// linearClient is one of the clients.
type linearClient struct {
	rec    *recording
	id     int
	rng    *rand.Rand
	store  persist.Store
	faults *Faults
	// claims are those that it was granted, and those of long ago.
	claims []persist.Claim
}

// The operations of a history.
const (
	linearClaim = iota
	linearRenew
	linearComplete
	linearRelease
	linearForget
)

// linearInput is what was asked about one key.
type linearInput struct {
	op    int
	key   string
	epoch int64 // of the claim that is renewed, completed or released
	long  bool  // the lease that is asked for does not end
}

// linearOutput is the answer about one key.
type linearOutput struct {
	unknown  bool
	ok       bool // renewed, completed or forgotten
	state    persist.ClaimState
	epoch    int64
	attempts int
}

func (c *linearClient) run(ctx context.Context) {
	for range linearCalls {
		if c.rng.IntN(12) == 0 {
			mode := Applied
			if c.rng.IntN(3) == 0 {
				mode = Lost
			}
			c.faults.Heal()
			c.faults.Add(Fault{Mode: mode})
		}
		if err := c.call(ctx); err != nil {
			c.rec.fail(err)
			return
		}
	}
}

// call makes one call and records it.
func (c *linearClient) call(ctx context.Context) error {
	op := linearClaim
	if len(c.claims) > 0 {
		op = []int{linearClaim, linearRenew, linearComplete, linearComplete, linearRelease, linearForget}[c.rng.IntN(6)]
	}
	var inputs []linearInput
	var chosen []persist.Claim
	long := c.rng.IntN(2) == 0
	switch op {
	case linearClaim:
		first, n := c.rng.IntN(linearKeys), 1+c.rng.IntN(3)
		for i := range n {
			inputs = append(inputs, linearInput{op: op, key: fmt.Sprint("key ", (first+i)%linearKeys), long: long})
		}
	case linearForget:
		inputs = append(inputs, linearInput{op: op, key: c.claims[c.rng.IntN(len(c.claims))].Key})
	default:
		for i := range min(1+c.rng.IntN(2), len(c.claims)) {
			claim := c.claims[(len(c.claims)-1-i-c.rng.IntN(2)+len(c.claims))%len(c.claims)]
			chosen = append(chosen, claim)
			inputs = append(inputs, linearInput{op: op, key: claim.Key, epoch: claim.Epoch, long: long})
		}
	}
	began := c.rec.now()
	outputs, err := c.perform(ctx, op, inputs, chosen)
	ended := c.rec.now()
	unknown := errors.Is(err, persist.ErrUnknownOutcome)
	if err != nil && !unknown {
		return err
	}
	operations := make([]porcupine.Operation, len(inputs))
	for i, input := range inputs {
		output := linearOutput{unknown: unknown}
		if unknown {
			ended = never
		} else {
			output = outputs[i]
		}
		operations[i] = porcupine.Operation{ClientId: c.id, Input: input, Call: began, Output: output, Return: ended}
	}
	c.rec.add(operations)
	return nil
}

// perform calls the store.
func (c *linearClient) perform(ctx context.Context, op int, inputs []linearInput, chosen []persist.Claim) ([]linearOutput, error) {
	const group = "g"
	ttl := shortLease
	if inputs[0].long {
		ttl = longLease
	}
	outputs := make([]linearOutput, len(inputs))
	var done []bool
	var err error
	switch op {
	case linearClaim:
		req := persist.ClaimRequest{Group: group, Owner: fmt.Sprint("client ", c.id), TTL: ttl}
		for i := range inputs {
			req.Keys = append(req.Keys, inputs[i].key)
		}
		var claims []persist.Claim
		claims, err = c.store.Claim(ctx, req)
		for i := range claims {
			outputs[i] = linearOutput{state: claims[i].State, epoch: claims[i].Epoch, attempts: claims[i].Attempts}
			if claims[i].State == persist.ClaimGranted {
				c.claims = append(c.claims, claims[i])
			}
		}
		return outputs, err
	case linearRenew:
		done, err = c.store.RenewClaims(ctx, group, chosen, ttl)
	case linearComplete:
		completions := make([]persist.Completion, len(chosen))
		for i := range chosen {
			completions[i].Claim = chosen[i]
		}
		done, err = c.store.Complete(ctx, group, completions, longLease)
	case linearRelease:
		return outputs, c.store.Release(ctx, group, chosen)
	case linearForget:
		var n int
		n, err = c.store.Forget(ctx, group, []string{inputs[0].key})
		done = []bool{n == 1}
	}
	for i := range done {
		outputs[i].ok = done[i]
	}
	return outputs, err
}

// linearState is a key as the model has it.
type linearState struct {
	standing linearStanding
	long     bool  // the lease does not end
	epoch    int64 // of the claim that holds or completed it; 0: not known
	attempts int
	highest  int64 // epoch that was seen
}

type linearStanding int

const (
	linearAbsent linearStanding = iota
	linearInWork
	linearReleased
	linearCompleted
)

// claimModel is what a key does, one call after another.
func claimModel() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := make(map[string][]porcupine.Operation)
			for _, op := range history {
				key := op.Input.(linearInput).key
				byKey[key] = append(byKey[key], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() []any { return []any{linearState{}} },
		Step: func(state, input, output any) []any {
			return stepClaim(state.(linearState), input.(linearInput), output.(linearOutput))
		},
		Equal: func(a, b any) bool { return a == b },
	}
	return m.ToModel()
}

// stepClaim are the states that may follow a call with that answer; none if it
// cannot have been answered so.
func stepClaim(s linearState, in linearInput, out linearOutput) []any {
	switch in.op {
	case linearClaim:
		return stepGrant(s, in, out)
	case linearForget:
		after := s
		if s.standing == linearCompleted {
			after = linearState{highest: s.highest}
		}
		return answered(s, after, out, s.standing == linearCompleted)
	}
	mine := s.epoch == in.epoch && s.epoch != 0
	held := mine && s.standing == linearInWork
	after := s
	switch in.op {
	case linearRenew:
		if held {
			after.long = in.long
		}
		return answered(s, after, out, held)
	case linearComplete:
		held = held || mine && s.standing == linearCompleted
		if held {
			after = linearState{standing: linearCompleted, epoch: s.epoch, highest: s.highest}
		}
		return answered(s, after, out, held)
	default: // a release tells nothing
		if held {
			after.standing = linearReleased
		}
		return answered(s, after, out, out.ok)
	}
}

// answered are the states after a call that either had its effect or, if its
// outcome is not known, perhaps not.
func answered(before, after linearState, out linearOutput, want bool) []any {
	switch {
	case out.unknown && before != after:
		return []any{before, after}
	case out.unknown || out.ok == want:
		return []any{after}
	}
	return nil
}

// stepGrant is a claim.
func stepGrant(s linearState, in linearInput, out linearOutput) []any {
	live := s.standing == linearInWork
	free := s.standing == linearAbsent || s.standing == linearReleased || live && !s.long
	granted := linearState{standing: linearInWork, long: in.long, attempts: s.attempts + 1, highest: s.highest}
	if out.unknown {
		if free {
			return []any{s, granted}
		}
		return []any{s}
	}
	switch out.state {
	case persist.ClaimCompleted:
		if s.standing == linearCompleted {
			return []any{s}
		}
	case persist.ClaimBusy:
		if !live || out.epoch != 0 && s.epoch != 0 && out.epoch != s.epoch || out.attempts != 0 && out.attempts != s.attempts {
			return nil
		}
		if out.epoch != 0 {
			s.epoch, s.highest = out.epoch, max(s.highest, out.epoch)
		}
		return []any{s}
	case persist.ClaimGranted:
		first := s.standing == linearReleased && !s.long && out.attempts == 1 // forgotten with its lease
		if free && out.epoch > s.highest && (out.attempts == granted.attempts || first) {
			granted.epoch, granted.highest, granted.attempts = out.epoch, out.epoch, out.attempts
			return []any{granted}
		}
	}
	return nil
}
