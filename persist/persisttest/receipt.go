package persisttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// receiptCases are about messages that stay until a consumer answers.
func receiptCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-12", name: "in each state", options: Options{Lanes: 2}, run: checkAcknowledge},
		{tag: "OUTBOX-12", name: "a consumer gave it up", run: checkAcknowledgeFailed},
		{tag: "OUTBOX-12", name: "unknown, late and repeated", options: Options{Lanes: 2}, run: checkAcknowledgeUnknown},
		{tag: "OUTBOX-12", name: "after a crash", run: checkReceiptAfterCrash},
		{tag: "OUTBOX-6", name: "again once its receipt is overdue", run: checkOverdue},
		{tag: "OUTBOX-6", name: "overdue in the next lease", run: checkOverdueNextLease},
		{tag: "OUTBOX-6", name: "overdue, then settled otherwise", run: checkOverdueOutcomes},
		{tag: "OUTBOX-6", name: "a receipt without time-out", run: checkNoTimeout},
	}
}

func seeking(id string) persist.Message {
	return with(message(id), func(m *persist.Message) { m.Receipt = true })
}

func (e *env) acknowledge(lane persist.Lane, receipts ...persist.Receipt) []bool {
	e.Helper()
	known, err := lane.Acknowledge(e.ctx, receipts)
	require.NoError(e, err, "acknowledge")
	require.Len(e, known, len(receipts))
	return known
}

func checkAcknowledge(e *env) {
	places := e.enqueue(seeking("delivered"), seeking("handed out"), seeking("retried"), seeking("pending"), message("plain"), seeking("other"))
	lane := e.acquire(places[0].Lane)
	entries, err := lane.Next(e.ctx, 3, 1<<20)
	require.NoError(e, err)
	e.settle(lane,
		persist.Settlement{Position: entries[0].Position, ReceiptTimeout: time.Hour},
		persist.Settlement{Position: entries[2].Position, Outcome: persist.OutcomeRetry},
	)
	stats := e.stats()
	require.EqualValues(e, 1, stats.Delivered)
	require.EqualValues(e, 5, stats.Pending)
	require.Equal(e, []bool{true, true, true, true}, e.acknowledge(lane,
		persist.Receipt{ID: "pending"}, persist.Receipt{ID: "retried"}, persist.Receipt{ID: "handed out"}, persist.Receipt{ID: "delivered"}))
	require.Equal(e, []string{"plain", "other"}, ids(e.stored(lane.Number())))
	require.Equal(e, []string{"plain", "other"}, ids(e.next(lane)))
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
	e.deliver(lane, entries...) // the acknowledgement overtook the broker's
	stats = e.stats()
	require.Zero(e, stats.Delivered)
	require.EqualValues(e, 2, stats.Pending)
	require.Equal(e, persist.StateDelivered, e.lookup(places[0].Ref)[0].State)
	e.advance(2 * time.Hour)
	require.Empty(e, e.next(lane), "what was acknowledged is never overdue")
}

func checkAcknowledgeFailed(e *env) {
	places := e.enqueue(seeking("pending"), seeking("delivered"))
	lane := e.acquire(0)
	e.deliver(lane, e.next(lane)[1])
	require.Equal(e, []bool{true, true}, e.acknowledge(lane,
		persist.Receipt{ID: "delivered", Failed: true, Reason: "no such order"}, persist.Receipt{ID: "pending", Failed: true, Reason: "panic"}))
	require.Empty(e, e.stored(0))
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 2)
	for i, want := range []struct {
		place  persist.Enqueued
		reason string
	}{{places[1], "no such order"}, {places[0], "panic"}} {
		require.Equal(e, persist.SideOutbox, letters[i].Side)
		require.Equal(e, persist.StateFailed, letters[i].State)
		require.Equal(e, want.place.Ref, letters[i].Ref)
		require.Equal(e, want.reason, letters[i].Reason)
		require.Equal(e, want.reason, letters[i].First.Error)
		require.Equal(e, want.reason, letters[i].Last.Error)
		require.Equal(e, letters[i].At.UnixMilli(), letters[i].Last.At.UnixMilli())
		require.Equal(e, persist.Fate{State: persist.StateFailed, LastError: want.reason}, e.lookup(want.place.Ref)[0])
	}
	require.EqualValues(e, 2, e.stats().Failed)
}

func checkAcknowledgeUnknown(e *env) {
	elsewhere := with(seeking("elsewhere"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 1) })
	here := with(seeking("here"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 0) })
	e.enqueue(elsewhere, here)
	lane := e.acquire(0)
	require.Equal(e, []bool{false, true, false, false, false}, e.acknowledge(lane,
		persist.Receipt{ID: "never was", Failed: true}, persist.Receipt{ID: "here"}, persist.Receipt{ID: "here", Failed: true},
		persist.Receipt{ID: ""}, persist.Receipt{ID: "elsewhere"}))
	require.Equal(e, []bool{false}, e.acknowledge(lane, persist.Receipt{ID: "here"}))
	require.Equal(e, []string{"elsewhere"}, ids(e.stored(1)), "a lease gives a right to its own lane's messages")
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
}

func checkReceiptAfterCrash(e *env) {
	e.enqueue(seeking("a"), seeking("b"))
	lane := e.acquire(0)
	for _, entry := range e.next(lane) {
		e.settle(lane, persist.Settlement{Position: entry.Position, ReceiptTimeout: 10 * time.Hour})
	}
	e.crash()
	e.advance(lease + time.Minute)
	lane = e.acquire(0)
	require.Empty(e, e.next(lane), "the receipt is awaited still")
	require.Equal(e, []bool{e.h.Durable}, e.acknowledge(lane, persist.Receipt{ID: "a"}))
	e.advance(10 * time.Hour)
	if e.h.Durable {
		require.Equal(e, []string{"b"}, ids(e.next(lane)))
	}
}

func checkOverdue(e *env) {
	e.enqueue(seeking("a"), seeking("b"), message("c"))
	lane := e.acquire(0)
	handed := e.next(lane)
	e.settle(lane,
		persist.Settlement{Position: handed[0].Position, ReceiptTimeout: 20 * time.Minute},
		persist.Settlement{Position: handed[1].Position, ReceiptTimeout: 40 * time.Minute},
		persist.Settlement{Position: handed[2].Position, ReceiptTimeout: 20 * time.Minute}, // asked for none
	)
	require.Empty(e, e.next(lane))
	e.advance(10 * time.Minute)
	require.Empty(e, e.next(lane))
	e.advance(15 * time.Minute)
	again := e.next(lane)
	require.Equal(e, []string{"a"}, ids(again))
	require.Equal(e, 1, again[0].Attempts, "the receipt that did not come counts")
	require.Empty(e, e.next(lane), "once, until it is settled again")
	e.advance(20 * time.Minute)
	require.Equal(e, []string{"b"}, ids(e.next(lane)))
	e.settle(lane, persist.Settlement{Position: again[0].Position, ReceiptTimeout: 20 * time.Minute})
	require.Empty(e, e.next(lane))
	e.advance(25 * time.Minute)
	again = e.next(lane)
	require.Equal(e, []string{"a"}, ids(again))
	require.Equal(e, 2, again[0].Attempts)
	require.Equal(e, []bool{true}, e.acknowledge(lane, persist.Receipt{ID: "a"}))
	require.Equal(e, []string{"b"}, ids(e.stored(0)))
}

func checkOverdueNextLease(e *env) {
	e.enqueue(seeking("a"), seeking("b"), message("c"), seeking("d"))
	lane := e.acquire(0)
	for _, entry := range e.next(lane) {
		if entry.Message.ID != "c" {
			e.settle(lane, persist.Settlement{Position: entry.Position, ReceiptTimeout: 20 * time.Minute})
		}
	}
	e.advance(30 * time.Minute)
	entries, err := lane.Next(e.ctx, 1, 1<<20)
	require.NoError(e, err)
	require.Equal(e, []string{"a"}, ids(entries))
	e.release(lane)
	e.release(e.acquire(0)) // whose holder comes to nothing
	lane = e.acquire(0)
	require.ElementsMatch(e, []string{"a", "b", "c", "d"}, ids(e.next(lane)),
		"overdue and handed out, overdue and not handed out, pending: all are unsettled")
	require.Empty(e, e.next(lane))
}

func checkOverdueOutcomes(e *env) {
	e.enqueue(seeking("delivered"), seeking("retried"), seeking("failed"), seeking("expired"), seeking("returned"))
	lane := e.acquire(0)
	for _, entry := range e.next(lane) {
		e.settle(lane, persist.Settlement{Position: entry.Position, ReceiptTimeout: 20 * time.Minute})
	}
	e.advance(30 * time.Minute)
	for i, entry := range e.next(lane) {
		e.settle(lane, persist.Settlement{
			Position: entry.Position, ReceiptTimeout: time.Hour, Reason: "r",
			Outcome: []persist.Outcome{
				persist.OutcomeDelivered, persist.OutcomeRetry, persist.OutcomeFailed, persist.OutcomeExpired, persist.OutcomeReturned,
			}[i],
		})
	}
	again := e.next(lane)
	require.Equal(e, []string{"returned"}, ids(again))
	require.Equal(e, 1, again[0].Attempts, "a missed receipt is counted once")
	require.Equal(e, []string{"delivered", "retried", "returned"}, ids(e.stored(0)))
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 2)
	require.Equal(e, persist.StateFailed, letters[0].State)
	require.Equal(e, 2, letters[0].Attempts, "a missed receipt and a refusal")
	require.Equal(e, persist.StateExpired, letters[1].State)
	e.release(lane)
	lane = e.acquire(0)
	again = e.next(lane)
	require.Equal(e, []string{"retried", "returned"}, ids(again))
	require.Equal(e, 2, again[0].Attempts, "a missed receipt and a refusal")
	require.Equal(e, 1, again[1].Attempts)
	require.Equal(e, []bool{true, true, true}, e.acknowledge(lane,
		persist.Receipt{ID: "delivered"}, persist.Receipt{ID: "retried"}, persist.Receipt{ID: "returned"}))
	stats := e.stats()
	require.Zero(e, stats.Pending+stats.Delivered)
}

func checkNoTimeout(e *env) {
	e.enqueue(seeking("a"))
	lane := e.acquire(0)
	e.deliver(lane, e.next(lane)...)
	e.advance(365 * 24 * time.Hour)
	require.Empty(e, e.next(lane))
	e.release(lane)
	lane = e.acquire(0)
	require.Empty(e, e.next(lane), "a new lease does not make it overdue")
	stored := e.stored(0)
	require.Equal(e, []string{"a"}, ids(stored))
	require.Equal(e, persist.StateDelivered, stored[0].State)
}
