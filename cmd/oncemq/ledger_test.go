package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// books is a ledger over a store that another process drains: the test itself,
// which holds the lane.
type books struct {
	*ledger
	t      *testing.T
	store  persist.Store
	client *autopaho.Client
	lane   persist.Lane
	out    *output
	text   strings.Builder
}

func newBooks(t *testing.T, receipt bool) *books {
	t.Helper()
	b := &books{t: t, store: memory.New(memory.Options{})}
	b.out = newOutput(&b.text)
	b.ledger = newLedger(b.out, receipt)
	var err error
	b.lane, err = b.store.AcquireLane(t.Context(), 0, "another", time.Hour)
	require.NoError(t, err)
	b.client, err = autopaho.New(t.Context(), autopaho.Config{
		Servers: []string{nobody}, Store: b.store, Relay: autopaho.RelayConfig{Off: true},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.out.close(context.Background()))
		require.NoError(t, b.client.Close(context.Background()))
		require.NoError(t, b.store.Close(context.Background()))
	})
	return b
}

// enqueue stores n messages, and returns their IDs.
func (b *books) enqueue(n int) []string {
	b.t.Helper()
	msgs := make([]autopaho.Message, n)
	for i := range msgs {
		msgs[i] = autopaho.Message{Topic: "a", Receipt: b.receipt}
	}
	b.begin()
	q, err := b.client.Enqueue(b.t.Context(), msgs...)
	require.NoError(b.t, err)
	b.stored(q, msgs)
	return q.IDs()
}

// settleNext settles the next n messages as another process would.
func (b *books) settleNext(n int, o persist.Outcome) {
	b.t.Helper()
	entries, err := b.lane.Next(b.t.Context(), n, 1<<20)
	require.NoError(b.t, err)
	require.Len(b.t, entries, n)
	settlements := make([]persist.Settlement, n)
	for i := range entries {
		settlements[i] = persist.Settlement{Position: entries[i].Position, Outcome: o}
		if o == persist.OutcomeFailed {
			settlements[i].ReasonCode, settlements[i].Reason = 0x87, "no"
		}
	}
	require.NoError(b.t, b.lane.Settle(b.t.Context(), settlements))
}

// look looks up twice: a lookup that follows a settlement is left out.
func (b *books) look() counts {
	b.t.Helper()
	for range 2 {
		require.NoError(b.t, b.lookup(b.t.Context(), b.store))
	}
	c, _, _ := b.tally()
	return c
}

func (b *books) printed() []string {
	b.t.Helper()
	require.NoError(b.t, b.out.close(context.Background()))
	return strings.Split(strings.TrimSuffix(b.text.String(), "\n"), "\n")
}

func TestLedgerCountsEvents(t *testing.T) {
	t.Parallel()
	b := newBooks(t, false)
	ids := b.enqueue(3)
	b.event(autopaho.Event{Kind: autopaho.EventDelivered, MessageID: ids[0], ReasonCode: 0x10})
	b.event(autopaho.Event{Kind: autopaho.EventFailed, MessageID: ids[1], Err: &autopaho.DeliveryError{ID: ids[1], State: persist.StateFailed, ReasonCode: 0x87, Reason: "no"}})
	b.event(autopaho.Event{Kind: autopaho.EventFailed, MessageID: ids[2], Err: &autopaho.DeliveryError{ID: ids[2], State: persist.StateExpired, Reason: "late"}})
	b.event(autopaho.Event{Kind: autopaho.EventDelivered, MessageID: "of an earlier run"})
	c, open, _ := b.tally()
	require.Equal(t, counts{stored: 3, delivered: 2, failed: 1, expired: 1}, c)
	require.Zero(t, open)
	require.True(t, b.wasRefused())
	require.Len(t, b.failures(), 2)
	require.Equal(t, []string{
		fmt.Sprintf(`{"event":"stored","id":"%s","topic":"a"}`, ids[0]),
		fmt.Sprintf(`{"event":"stored","id":"%s","topic":"a"}`, ids[1]),
		fmt.Sprintf(`{"event":"stored","id":"%s","topic":"a"}`, ids[2]),
		fmt.Sprintf(`{"event":"delivered","id":"%s","reason_code":16}`, ids[0]),
		fmt.Sprintf(`{"event":"failed","id":"%s","reason_code":135,"reason":"no"}`, ids[1]),
		fmt.Sprintf(`{"event":"expired","id":"%s","reason_code":0,"reason":"late"}`, ids[2]),
		`{"event":"delivered","id":"of an earlier run","reason_code":0}`,
	}, b.printed())
}

// TestLedgerEarlyEvent: the relay can be faster than the call that stores. Its
// event must neither be lost nor be printed before the message is.
func TestLedgerEarlyEvent(t *testing.T) {
	t.Parallel()
	b := newBooks(t, false)
	b.begin()
	msg := autopaho.Message{Topic: "a"}
	q, err := b.client.Enqueue(t.Context(), msg)
	require.NoError(t, err)
	b.event(autopaho.Event{Kind: autopaho.EventDelivered, MessageID: q.ID()})
	b.stored(q, []autopaho.Message{msg})
	c, open, _ := b.tally()
	require.Equal(t, counts{stored: 1, delivered: 1}, c)
	require.Zero(t, open)
	printed := b.printed()
	require.Contains(t, printed[0], `"stored"`)
	require.Contains(t, printed[1], `"delivered"`)
}

// A message whose ID is in the outbox is a duplicate, and not stored: neither is one of
// this run counted or awaited twice, nor is one of an earlier run forgotten.
func TestLedgerDuplicates(t *testing.T) {
	t.Parallel()
	b := newBooks(t, false)
	_, err := b.client.Enqueue(t.Context(), autopaho.Message{ID: "earlier", Topic: "a"})
	require.NoError(t, err)
	store := func(ids ...string) {
		msgs := make([]autopaho.Message, len(ids))
		for i, id := range ids {
			msgs[i] = autopaho.Message{ID: id, Topic: "a"}
		}
		b.begin()
		q, err := b.client.Enqueue(t.Context(), msgs...)
		require.NoError(t, err)
		b.stored(q, msgs)
	}
	store("same", "same")
	store("same")
	_, open, _ := b.tally()
	require.Equal(t, 1, open)
	b.begin()
	msg := autopaho.Message{ID: "same", Topic: "a"}
	q, err := b.client.Enqueue(t.Context(), msg)
	require.NoError(t, err)
	b.event(autopaho.Event{Kind: autopaho.EventDelivered, MessageID: "same"}) // before the duplicate is taken in
	b.stored(q, []autopaho.Message{msg})
	c, open, untracked := b.tally()
	require.Equal(t, counts{stored: 1, delivered: 1, duplicates: 3}, c)
	require.Zero(t, open)
	require.Zero(t, untracked)

	store("earlier")
	_, open, _ = b.tally()
	require.Equal(t, 1, open, "it is awaited")
	b.settleNext(2, persist.OutcomeDelivered)
	require.Equal(t, counts{stored: 1, delivered: 2, duplicates: 4}, b.look())
	require.Equal(t, "1 stored, 2 delivered, 0 failed, 0 expired, 4 duplicates", b.look().String())
	stored, duplicate := `{"event":"stored","id":"same","topic":"a"}`, `{"event":"duplicate","id":"same","topic":"a"}`
	require.Equal(t, []string{stored, duplicate, duplicate}, b.printed()[:3])
}

// TestLedgerReceipts: a message that asked for a receipt is settled by it, and
// not by the broker's acknowledgement.
func TestLedgerReceipts(t *testing.T) {
	t.Parallel()
	b := newBooks(t, true)
	ids := b.enqueue(2)
	b.event(autopaho.Event{Kind: autopaho.EventDelivered, MessageID: ids[0]})
	_, open, _ := b.tally()
	require.Equal(t, 2, open)
	b.event(autopaho.Event{Kind: autopaho.EventAcknowledged, MessageID: ids[0]})
	c, open, _ := b.tally()
	require.Equal(t, counts{stored: 2, delivered: 1}, c)
	require.Equal(t, 1, open)

	// The other one by lookup: delivered is not enough there, either.
	b.settleNext(2, persist.OutcomeDelivered)
	require.EqualValues(t, 1, b.look().delivered)
	_, err := b.lane.Acknowledge(t.Context(), []persist.Receipt{{ID: ids[1]}})
	require.NoError(t, err)
	require.EqualValues(t, 2, b.look().delivered)
}

// TestLedgerLookup: another process drains the outbox.
func TestLedgerLookup(t *testing.T) {
	t.Parallel()
	b := newBooks(t, false)
	b.enqueue(2*lookupChunk + 10)
	require.Zero(t, b.look().settled())
	b.settleNext(lookupChunk+5, persist.OutcomeDelivered)
	require.EqualValues(t, lookupChunk+5, b.look().delivered)
	b.settleNext(5, persist.OutcomeFailed)
	c := b.look()
	require.EqualValues(t, 5, c.failed)
	b.settleNext(lookupChunk, persist.OutcomeDelivered)
	require.EqualValues(t, 2*lookupChunk+5, b.look().delivered)
	_, open, _ := b.tally()
	require.Zero(t, open)

	// The event of a failure that was looked up is the same failure.
	b.event(autopaho.Event{Kind: autopaho.EventFailed, MessageID: b.failures()[0].ID, Err: errors.New("no")})
	c, _, _ = b.tally()
	require.EqualValues(t, 5, c.failed)
}

// TestLedgerBeyondLimit: more is stored than is followed one by one, and another
// process delivers it. The counts are exact in the end.
func TestLedgerBeyondLimit(t *testing.T) {
	t.Parallel()
	b := newBooks(t, false)
	b.limit = 10
	earlier, err := b.client.Enqueue(t.Context(), autopaho.Message{Topic: "a"}, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	b.settleNext(1, persist.OutcomeFailed) // of an earlier run: not ours to count
	b.enqueue(8)
	b.enqueue(8)
	b.enqueue(2)
	_, open, untracked := b.tally()
	require.Equal(t, 10, open)
	require.EqualValues(t, 8, untracked)

	b.settleNext(9, persist.OutcomeDelivered)
	clear, err := b.clear(t.Context(), b.store)
	require.NoError(t, err)
	require.False(t, clear)
	b.settleNext(3, persist.OutcomeFailed)
	b.settleNext(2, persist.OutcomeExpired)
	b.settleNext(5, persist.OutcomeDelivered)
	clear, err = b.clear(t.Context(), b.store)
	require.NoError(t, err)
	require.True(t, clear)
	b.look()
	require.NoError(t, b.reconcile(t.Context(), b.store))
	c, open, _ := b.tally()
	require.Zero(t, open)
	require.Equal(t, counts{stored: 18, delivered: 13, failed: 3, expired: 2}, c)

	// What another process stores meanwhile is not waited for.
	_, err = b.client.Enqueue(t.Context(), autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	clear, err = b.clear(t.Context(), b.store)
	require.NoError(t, err)
	require.True(t, clear)
	require.NotNil(t, earlier)
}
