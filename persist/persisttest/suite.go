package persisttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// Run checks the whole contract. Each case has a store of its own and runs in
// parallel with the others.
func Run(t *testing.T, h Harness) {
	t.Helper()
	groups := byTag(allCases())
	for _, tag := range slices.Sorted(maps.Keys(groups)) {
		t.Run(tag, func(t *testing.T) {
			t.Parallel()
			for _, c := range groups[tag] {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					if why := c.lacks(h); why != "" {
						t.Skip(why)
					}
					c.check(t, h)
				})
			}
		})
	}
}

// testCase is one demand of the contract.
type testCase struct {
	tag     string // the rule, "OUTBOX-4", or the part of the contract
	name    string
	options Options
	needs   need
	run     func(e *env)
}

// need is an ability without which a case has nothing to check.
type need uint8

const (
	needsTx need = 1 << iota
	needsCorruption
	needsNotifier
)

// lacks says what the case needs and the harness declares not to have.
func (c *testCase) lacks(h Harness) string {
	switch {
	case c.needs&needsTx != 0 && !h.Transacts:
		return "the harness declares no transactions"
	case c.needs&needsCorruption != 0 && !h.Corrupts:
		return "the harness declares no way to damage stored bytes"
	case c.needs&needsNotifier != 0 && !h.Notifies:
		return "the harness declares no notifications"
	}
	return ""
}

// check runs the case on a new store.
func (c *testCase) check(t T, h Harness) {
	t.Helper()
	opts := c.options
	opts.Lanes = max(opts.Lanes, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	e := &env{T: t, h: h, ctx: ctx, backend: h.New(t, opts)}
	e.store = e.open()
	c.run(e)
}

// allCases are the cases of the suite.
func allCases() []testCase {
	return slices.Concat(
		storeCases(), enqueueCases(), idempotencyCases(), limitCases(), supersedeCases(), ageCases(), handOutCases(), settleCases(),
		receiptCases(), leaseCases(), stepCases(), relayCases(), claimCases(), completionCases(), sessionCases(), deadLetterCases(),
		adminCases(), concurrencyCases(), argumentCases(), txCases(), processCases(), corruptionCases(),
	)
}

// byTag groups cases by their tags.
func byTag(cases []testCase) map[string][]testCase {
	groups := make(map[string][]testCase)
	for _, c := range cases {
		groups[c.tag] = append(groups[c.tag], c)
	}
	return groups
}

// env is what a case works with: its test, a store and the store's place.
type env struct {
	T
	h       Harness
	ctx     context.Context //nolint:containedctx // lives as long as the test
	backend Backend
	store   persist.Store
}

// open opens a handle, to be closed when the test ends.
func (e *env) open() persist.Store {
	e.Helper()
	store, err := e.backend.Open(e.ctx)
	require.NoError(e, err, "open")
	e.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			e.Errorf("close: %v", err)
		}
	})
	return store
}

// handle is one more handle of the store where there may be several, and else
// the only one.
func (e *env) handle() persist.Store {
	e.Helper()
	if e.h.Shared {
		return e.open()
	}
	return e.store
}

// crash forgets the handle and opens another.
func (e *env) crash() {
	e.Helper()
	if !e.h.Shared {
		require.NoError(e, e.store.Close(e.ctx), "close")
	}
	e.store = e.open()
}

// advance moves the store's clock.
func (e *env) advance(d time.Duration) { e.backend.Advance(d) }

// lease is for how long the suite takes leases where their end is not the
// point: longer than any test runs on a clock that does not stand still.
const lease = time.Hour

// message is a plain message of QoS 1 on the topic "t".
func message(id string) persist.Message {
	return persist.Message{ID: id, Topic: "t", Payload: []byte("payload of " + id), QoS: 1}
}

// messages are n plain messages with the prefix and a number as ID.
func messages(prefix string, n int) []persist.Message {
	msgs := make([]persist.Message, n)
	for i := range msgs {
		msgs[i] = message(fmt.Sprintf("%s%d", prefix, i))
	}
	return msgs
}

// with is the message after a change.
func with(m persist.Message, change func(m *persist.Message)) persist.Message {
	change(&m)
	return m
}

func (e *env) enqueue(msgs ...persist.Message) []persist.Enqueued {
	e.Helper()
	places, err := e.store.Enqueue(e.ctx, msgs)
	require.NoError(e, err, "enqueue")
	require.Len(e, places, len(msgs))
	return places
}

func (e *env) acquire(number int) persist.Lane {
	e.Helper()
	lane, err := e.store.AcquireLane(e.ctx, number, "owner", lease)
	require.NoError(e, err, "acquire")
	return lane
}

// next hands out all that is due.
func (e *env) next(lane persist.Lane) []persist.Entry {
	e.Helper()
	entries, err := lane.Next(e.ctx, 10_000, 1<<30)
	require.NoError(e, err, "next")
	return entries
}

func (e *env) settle(lane persist.Lane, settlements ...persist.Settlement) {
	e.Helper()
	require.NoError(e, lane.Settle(e.ctx, settlements), "settle")
}

// deliver settles entries as delivered.
func (e *env) deliver(lane persist.Lane, entries ...persist.Entry) {
	e.Helper()
	settlements := make([]persist.Settlement, len(entries))
	for i := range entries {
		settlements[i].Position = entries[i].Position
	}
	e.settle(lane, settlements...)
}

func (e *env) release(lane persist.Lane) {
	e.Helper()
	require.NoError(e, lane.Release(e.ctx), "release")
}

func (e *env) stats() persist.Stats {
	e.Helper()
	stats, err := e.store.Stats(e.ctx)
	require.NoError(e, err, "stats")
	return stats
}

// stored lists a lane of the outbox.
func (e *env) stored(lane int) []persist.Entry {
	e.Helper()
	entries, err := e.store.ListOutbox(e.ctx, persist.ListRequest{Lane: lane, Limit: 10_000})
	require.NoError(e, err, "list outbox")
	return entries
}

func (e *env) lookup(refs ...persist.Ref) []persist.Fate {
	e.Helper()
	fates, err := e.store.Lookup(e.ctx, refs)
	require.NoError(e, err, "lookup")
	require.Len(e, fates, len(refs))
	return fates
}

func (e *env) letters(filter persist.DeadLetterFilter) []persist.DeadLetter {
	e.Helper()
	letters, err := e.store.ListDeadLetters(e.ctx, filter, 10_000)
	require.NoError(e, err, "list dead letters")
	return letters
}

// claim claims one key of the group "g" for the usual lease.
func (e *env) claim(key string) persist.Claim {
	e.Helper()
	return e.claims("g", lease, key)[0]
}

func (e *env) claims(group string, ttl time.Duration, keys ...string) []persist.Claim {
	e.Helper()
	claims, err := e.store.Claim(e.ctx, persist.ClaimRequest{Group: group, Owner: "owner", TTL: ttl, Keys: keys})
	require.NoError(e, err, "claim")
	require.Len(e, claims, len(keys))
	for i, key := range keys {
		require.Equal(e, key, claims[i].Key, "claims are answered in the order of the keys")
	}
	return claims
}

// complete completes claims of the group "g".
func (e *env) complete(window time.Duration, claims ...persist.Claim) []bool {
	e.Helper()
	completions := make([]persist.Completion, len(claims))
	for i := range claims {
		completions[i].Claim = claims[i]
	}
	done, err := e.store.Complete(e.ctx, "g", completions, window)
	require.NoError(e, err, "complete")
	require.Len(e, done, len(claims))
	return done
}

// together runs n functions at once and waits for all of them.
func (e *env) together(n int, f func(i int) error) {
	e.Helper()
	start, errs := make(chan struct{}), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	all.Wait()
	for _, err := range errs {
		require.NoError(e, err)
	}
}

// ids are the message IDs of entries.
func ids(entries []persist.Entry) []string {
	out := make([]string, len(entries))
	for i := range entries {
		out[i] = entries[i].Message.ID
	}
	return out
}

// around demands a duration, exactly where the clock stands still.
func (e *env) around(want, got time.Duration, what string) {
	e.Helper()
	if e.h.FrozenClock {
		require.Equal(e, want, got, what)
		return
	}
	require.InDelta(e, want.Seconds(), got.Seconds(), 30, what)
}

// sameMessage demands that a message came back as it was stored, but for its
// expiry, which the caller looks at.
func (e *env) sameMessage(want, got persist.Message) {
	e.Helper()
	want.Expiry, got.Expiry = 0, 0
	require.Equal(e, plain(want), plain(got))
}

// plain makes absent and empty the same.
func plain(m persist.Message) persist.Message {
	if len(m.Payload) == 0 {
		m.Payload = nil
	}
	if len(m.Properties.CorrelationData) == 0 {
		m.Properties.CorrelationData = nil
	}
	if len(m.Properties.User) == 0 {
		m.Properties.User = nil
	}
	return m
}
