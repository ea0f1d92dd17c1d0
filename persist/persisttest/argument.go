package persisttest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// argumentCases are about what is refused.
func argumentCases() []testCase {
	return []testCase{
		{tag: "Arguments", name: "messages", run: checkBadMessages},
		{tag: "Arguments", name: "everything else", options: Options{Lanes: 2}, run: checkBadArguments},
		{tag: "Arguments", name: "hostile message IDs and keys", options: Options{Lanes: 2}, run: checkHostileIDs},
		{tag: "Arguments", name: "errors show no payload", options: Options{Lanes: 2, Limits: persist.Limits{Messages: 1}}, run: checkErrorsQuiet},
	}
}

func checkBadMessages(e *env) {
	for name, spoil := range map[string]func(m *persist.Message){
		"empty ID":              func(m *persist.Message) { m.ID = "" },
		"ID too long":           func(m *persist.Message) { m.ID = strings.Repeat("i", persist.MaxMessageID+1) },
		"empty topic":           func(m *persist.Message) { m.Topic = "" },
		"QoS 3":                 func(m *persist.Message) { m.QoS = 3 },
		"negative expiry":       func(m *persist.Message) { m.Expiry = -time.Second },
		"negative delay":        func(m *persist.Message) { m.Delay = -time.Nanosecond },
		"negative max attempts": func(m *persist.Message) { m.MaxAttempts = -1 },
		"superseded receipt":    func(m *persist.Message) { m.Supersede, m.Receipt = true, true },
		"superseded or dropped": func(m *persist.Message) { m.Supersede, m.Droppable = true, true },
	} {
		_, err := e.store.Enqueue(e.ctx, []persist.Message{message("good"), with(message("bad"), spoil)})
		require.ErrorIs(e, err, persist.ErrInvalid, name)
		require.NotContains(e, err.Error(), "\n", "one line")
	}
	require.Zero(e, e.stats().Pending)
}

func checkBadArguments(e *env) {
	lane, claim := furnish(e)
	before := snapshot(e)
	completion := []persist.Completion{{Claim: claim}}
	for name, call := range map[string]func() error{
		"lane -1": func() error {
			_, err := e.store.AcquireLane(e.ctx, -1, "o", lease)
			return err
		},
		"lane 2 of 2": func() error {
			_, err := e.store.AcquireLane(e.ctx, 2, "o", lease)
			return err
		},
		"lease of no time": func() error {
			_, err := e.store.AcquireLane(e.ctx, 1, "o", 0)
			return err
		},
		"renewal for no time": func() error { return lane.Renew(e.ctx, -lease, false) },
		"announcement without a name": func() error {
			_, err := e.store.AnnounceRelay(e.ctx, "", lease)
			return err
		},
		"announcement for less than no time": func() error {
			_, err := e.store.AnnounceRelay(e.ctx, "o", -1)
			return err
		},
		"next none": func() error {
			_, err := lane.Next(e.ctx, 0, 100)
			return err
		},
		"negative receipt time-out": func() error {
			return lane.Settle(e.ctx, []persist.Settlement{{Position: 1, ReceiptTimeout: -1}})
		},
		"one key twice": func() error {
			_, err := e.store.Claim(e.ctx, persist.ClaimRequest{Group: "g", TTL: lease, Keys: []string{"x", "y", "x"}})
			return err
		},
		"claim for no time": func() error {
			_, err := e.store.Claim(e.ctx, persist.ClaimRequest{Group: "g", Keys: []string{"x"}})
			return err
		},
		"claims renewed for no time": func() error {
			_, err := e.store.RenewClaims(e.ctx, "g", []persist.Claim{claim}, 0)
			return err
		},
		"window too short": func() error {
			_, err := e.store.Complete(e.ctx, "g", completion, time.Second-time.Nanosecond)
			return err
		},
		"completion with a bad letter": func() error {
			_, err := e.store.Complete(e.ctx, "g", []persist.Completion{{Claim: claim, Dead: &persist.DeadLetter{}}}, time.Hour)
			return err
		},
		"expire none": func() error {
			_, err := e.store.ExpireProcessed(e.ctx, 0)
			return err
		},
		"list no letters": func() error {
			_, err := e.store.ListDeadLetters(e.ctx, persist.DeadLetterFilter{}, 0)
			return err
		},
		"retry a letter twice": func() error {
			retry := persist.Retry{Number: 1, Message: message("m")}
			_, err := e.store.RetryDeadLetters(e.ctx, []persist.Retry{retry, retry})
			return err
		},
		"retry without a topic": func() error {
			_, err := e.store.RetryDeadLetters(e.ctx, []persist.Retry{{Number: 1, Message: persist.Message{ID: "m"}}})
			return err
		},
		"purge no letters": func() error {
			_, err := e.store.PurgeDeadLetters(e.ctx, persist.DeadLetterFilter{}, 0)
			return err
		},
		"list nothing": func() error {
			_, err := e.store.ListOutbox(e.ctx, persist.ListRequest{})
			return err
		},
		"list lane 2 of 2": func() error {
			_, err := e.store.ListOutbox(e.ctx, persist.ListRequest{Lane: 2, Limit: 1})
			return err
		},
		"purge nothing": func() error {
			_, err := e.store.PurgeOutbox(e.ctx, persist.ListRequest{})
			return err
		},
		"purge lane -1": func() error {
			_, err := e.store.PurgeOutbox(e.ctx, persist.ListRequest{Lane: -1, Limit: 1})
			return err
		},
	} {
		err := call()
		require.ErrorIs(e, err, persist.ErrInvalid, name)
		require.NotErrorIs(e, err, persist.ErrUnknownOutcome, name)
		require.NotContains(e, err.Error(), "\n", "one line")
	}
	require.Equal(e, before, snapshot(e))
	require.Equal(e, []bool{true}, e.complete(time.Second, claim), "the shortest window")
}

func checkHostileIDs(e *env) {
	var want []string
	for _, name := range hostile() {
		if name == "" || len(name) > persist.MaxMessageID {
			continue
		}
		want = append(want, name)
		m := seeking(name)
		m.OrderingKey, m.Idempotent = name, true
		place := e.enqueue(m)[0]
		require.False(e, place.Duplicate, "%q", name)
		require.Equal(e, persist.LaneOf(name, 2), place.Lane)
		require.True(e, e.enqueue(m)[0].Duplicate, "%q", name)
	}
	var got []string
	for number := range 2 {
		lane := e.acquire(number)
		for _, entry := range e.next(lane) {
			found, err := e.store.GetOutbox(e.ctx, entry.Message.ID)
			require.NoError(e, err)
			require.Len(e, found, 1)
			require.Equal(e, entry.Message.ID, found[0].Message.OrderingKey)
			require.Equal(e, []bool{true}, e.acknowledge(lane, persist.Receipt{ID: entry.Message.ID, Failed: true, Reason: entry.Message.ID}))
			got = append(got, entry.Message.ID)
		}
	}
	require.ElementsMatch(e, want, got)
	for _, letter := range e.letters(persist.DeadLetterFilter{}) {
		require.Equal(e, letter.Message.ID, letter.Reason)
	}
	long := with(message("long"), func(m *persist.Message) { m.OrderingKey = strings.Repeat("k", 1<<16) })
	e.enqueue(long)
	owner := strings.Repeat("o", 1<<16)
	lane, err := e.store.AcquireLane(e.ctx, persist.LaneOf(long.OrderingKey, 2), owner, lease)
	require.ErrorIs(e, err, persist.ErrLeaseHeld)
	require.Nil(e, lane)
}

func checkErrorsQuiet(e *env) {
	secret := with(message("m"), func(m *persist.Message) { m.Payload = []byte("secret-payload") })
	bad := with(secret, func(m *persist.Message) { m.QoS = 9 })
	cancelled, cancel := context.WithCancel(e.ctx)
	cancel()
	for _, call := range []func() error{
		func() error { _, err := e.store.Enqueue(e.ctx, []persist.Message{bad}); return err },
		func() error { _, err := e.store.Enqueue(e.ctx, []persist.Message{secret, secret}); return err },
		func() error { _, err := e.store.Enqueue(cancelled, []persist.Message{secret}); return err },
	} {
		err := call()
		require.Error(e, err)
		require.NotContains(e, fmt.Sprintf("%v %+v %q", err, err, err), "secret-payload")
		require.Contains(e, err.Error(), "enqueue", "what was being done")
	}
}
