package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// flaky is a handler that gives everything up until it is mended.
type flaky struct {
	mu     sync.Mutex // guards the following
	mended bool
	runs   []string // topics
}

func (f *flaky) handle(_ context.Context, m *autopaho.Received) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mended {
		return autopaho.Permanent(errors.New("the database says no"))
	}
	f.runs = append(f.runs, m.Topic)
	return nil
}

func (f *flaky) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mended = true
}

func (f *flaky) ran() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.runs...)
}

// A dead letter that was tried again was a duplicate of itself within the window of
// its key, and too old after it. Now the group that gave it up processes it once
// more, and no other group does.
func TestRetriedLetterIsProcessed(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, open func(t *testing.T) persist.Store) {
		t.Helper()
		for name, key := range map[string]dedup.KeyFunc{
			"id": dedup.ByMessageID, "property": dedup.ByProperty("order"), "json": dedup.ByJSONField("order"), "none": dedup.None,
		} {
			for _, age := range []time.Duration{0, 48 * time.Hour} {
				t.Run(fmt.Sprint(name, " ", age), func(t *testing.T) {
					t.Parallel()
					checkRetried(t, open(t), key, age)
				})
			}
		}
	})
}

func checkRetried(t *testing.T, store persist.Store, key dedup.KeyFunc, age time.Duration) {
	t.Helper()
	ctx := within(t, 50*time.Second)
	b := startBroker(t, brokertest.Options{})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	mine, others := new(flaky), new(flaky)
	others.mend()
	for group, h := range map[string]*flaky{"mine": mine, "others": others} {
		_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"orders/#"}, Group: group, DedupKey: key, Handler: h.handle})
		require.NoError(t, err)
	}
	m := autopaho.Message{
		ID: idOf(time.Now().Add(-age)), Topic: "orders/a", QoS: 1, Payload: []byte(`{"order":7}`),
		Properties: persist.Properties{User: []autopaho.UserProperty{{Name: "order", Value: "7"}, {Name: "tenant", Value: "a"}}},
	}
	if age > 0 {
		// The others have processed it in time, and know that still.
		m.Properties.User = append(m.Properties.User, dedup.Retried("others", time.Now()))
	}
	_, err := c.Publish(ctx, m)
	require.NoError(t, err)
	var letters []persist.DeadLetter
	settled := func(n int) func() bool {
		return func() bool {
			letters, err = store.ListDeadLetters(ctx, persist.DeadLetterFilter{Group: "mine"}, 10)
			return err == nil && len(letters) == n
		}
	}
	keyed := false
	if _, ok := key(&m); ok {
		keyed = true
	}
	require.Eventually(t, settled(1), 30*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool { return len(others.ran()) == 1 }, 30*time.Second, time.Millisecond)
	l := letters[0]
	require.NotEmpty(t, l.Last.Error)
	require.Equal(t, l.Reason, l.Last.Error)
	require.WithinDuration(t, l.At, l.Last.At, 20*time.Second, "by the store's clock")
	if age > 0 && keyed {
		require.Contains(t, l.Reason, "older than the dedup window")
	} else {
		require.Equal(t, "the database says no", l.Reason)
	}

	mine.mend()
	moved, err := autopaho.RetryDeadLetters(ctx, store, autopaho.DeadLetterRetry{Topic: "orders/b", SetProperties: []autopaho.UserProperty{{Name: "tenant", Value: "b"}}})
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	c.Wake()
	require.Eventually(t, func() bool { return len(mine.ran()) == 1 }, 30*time.Second, time.Millisecond)
	require.Equal(t, []string{"orders/b"}, mine.ran())
	// The broker hands a message on before it has put it on record.
	var sent *brokertest.Packet
	require.Eventually(t, func() bool {
		all := b.Arrivals()
		sent = all[len(all)-1].Packet
		return sent.Topic == "orders/b"
	}, 30*time.Second, time.Millisecond)
	require.Equal(t, "b", sent.Properties.User("tenant"))
	require.Equal(t, m.ID, sent.Properties.User("message-id"))

	// And once is once: what comes by another way is a duplicate, also for those
	// who were not asked.
	before := c.Counters()
	_, err = c.Publish(ctx, m)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		now := c.Counters()
		return now.Processed+now.Duplicates+now.Dead >= before.Processed+before.Duplicates+before.Dead+2
	}, 30*time.Second, time.Millisecond)
	if keyed {
		require.Len(t, mine.ran(), 1)
		require.Len(t, others.ran(), 1, "they see a duplicate, twice")
		require.True(t, settled(0)())
	}
}

// The receipt of a duplicate tells how the message ended: it said "processed" of a
// message that had become a dead letter.
func TestReceiptOfADeadDuplicate(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, open func(t *testing.T) persist.Store) {
		t.Helper()
		ctx := within(t, 50*time.Second)
		b := startBroker(t, brokertest.Options{})
		c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: open(t), Relay: autopaho.RelayConfig{Off: true}})
		h := new(flaky)
		_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Handler: h.handle, Receipts: true})
		require.NoError(t, err)
		m := autopaho.Message{ID: idOf(time.Now()), Topic: "a", QoS: 1, Properties: persist.Properties{
			ResponseTopic: "oncemq/receipts/x", CorrelationData: []byte("1"),
		}}
		for i := range 2 {
			_, err := c.Publish(ctx, m)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return len(b.FirstArrivals("oncemq/receipts/x")) == i+1 }, 30*time.Second, time.Millisecond)
			require.Equal(t, "dead", b.FirstArrivals("oncemq/receipts/x")[i].Packet.Properties.User("receipt"))
		}
		require.EqualValues(t, 1, c.Counters().Duplicates)
		require.EqualValues(t, 1, c.Counters().Dead)
	})
}

// What cannot be sent is refused by itself, and stays.
func TestRetryRefusals(t *testing.T) {
	t.Parallel()
	ctx := within(t, 20*time.Second)
	store := memoryStore(t)
	letter := func(change func(l *persist.DeadLetter)) persist.DeadLetter {
		l := persist.DeadLetter{Side: persist.SideConsumer, State: persist.StateFailed, Group: "g", Key: "k", Message: persist.Message{ID: "m", Topic: "t", QoS: 1}}
		change(&l)
		return l
	}
	require.NoError(t, store.AddDeadLetters(ctx, []persist.DeadLetter{
		letter(func(l *persist.DeadLetter) { l.Message.ID = "first"; l.Message.QoS = 0; l.Message.Retain = true }),
		letter(func(l *persist.DeadLetter) { l.Message.Payload = make([]byte, 11) }),
		letter(func(l *persist.DeadLetter) { l.Message = persist.Message{}; l.Reason = "cannot be decoded" }),
		letter(func(l *persist.DeadLetter) { l.Message.ID = "last" }),
	}))
	var told []autopaho.RetriedLetter
	moved, err := autopaho.RetryDeadLetters(ctx, store, autopaho.DeadLetterRetry{MaxPayload: 10, Report: func(r autopaho.RetriedLetter) error {
		told = append(told, r)
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, 2, moved)
	require.Len(t, told, 4)
	require.NoError(t, told[0].Err)
	require.ErrorIs(t, told[1].Err, autopaho.ErrInvalidMessage)
	require.ErrorIs(t, told[2].Err, autopaho.ErrUnreadable)
	require.NoError(t, told[3].Err)
	entries, err := store.ListOutbox(ctx, persist.ListRequest{Limit: 10})
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.EqualValues(t, 1, entries[0].Message.QoS, "an outbox promises something")
	require.False(t, entries[0].Message.Retain, "the broker may have a later one")
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 2)

	for _, bad := range []autopaho.DeadLetterRetry{
		{Topic: "a/#"},
		{Limit: -1},
		{MaxPayload: -1},
		{RemoveProperties: []string{"message-id"}},
		{SetProperties: []autopaho.UserProperty{{Name: "retried", Value: "x"}}},
		{SetProperties: []autopaho.UserProperty{{Name: "a\x00", Value: "x"}}},
	} {
		_, err := autopaho.RetryDeadLetters(ctx, store, bad)
		require.ErrorIs(t, err, autopaho.ErrConfig, "%+v", bad)
	}
	n, err := autopaho.PurgeDeadLetters(ctx, store, autopaho.DeadLetterFilter{Topic: "t"}, 1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = autopaho.PurgeDeadLetters(ctx, store, autopaho.DeadLetterFilter{}, 0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// A consumer that gives everything up at once must not keep a retry busy for ever.
func TestRetryEnds(t *testing.T) {
	t.Parallel()
	ctx := within(t, 20*time.Second)
	store := memoryStore(t)
	again := persist.DeadLetter{Side: persist.SideConsumer, State: persist.StateFailed, Group: "g", Key: "k", Message: persist.Message{ID: "m", Topic: "t", QoS: 1}}
	letters := make([]persist.DeadLetter, 300)
	for i := range letters {
		letters[i] = again
	}
	require.NoError(t, store.AddDeadLetters(ctx, letters))
	moved, err := autopaho.RetryDeadLetters(ctx, store, autopaho.DeadLetterRetry{Report: func(autopaho.RetriedLetter) error {
		for begun := time.Now(); time.Since(begun) < 2*time.Millisecond; { // the store counts in milliseconds
		}
		return store.AddDeadLetters(ctx, []persist.DeadLetter{again})
	}})
	require.NoError(t, err)
	require.Equal(t, 300, moved)
}
