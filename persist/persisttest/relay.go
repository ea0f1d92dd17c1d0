package persisttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// relayCases are about what relays tell each other through the store.
func relayCases() []testCase {
	return []testCase{
		{tag: "LEASE-5", name: "live relays", run: checkAnnounce},
		{tag: "LEASE-5", name: "a relay that died", run: checkAnnounceEnds},
		{tag: "LEASE-6", name: "nobody ever sent", run: checkNeverSent},
		{tag: "LEASE-6", name: "a holder that sent", options: Options{Lanes: 2}, run: checkSentUntil},
		{tag: "LEASE-6", name: "a holder that stopped sending", run: checkSentBefore},
		{tag: "Time", name: "leases and messages share it", run: checkTime},
	}
}

func (e *env) announce(store persist.Store, owner string, ttl time.Duration) []string {
	e.Helper()
	live, err := store.AnnounceRelay(e.ctx, owner, ttl)
	require.NoError(e, err, "announce relay")
	return live
}

func checkAnnounce(e *env) {
	other := e.handle()
	require.Equal(e, []string{"b"}, e.announce(e.store, "b", lease))
	require.Equal(e, []string{"b", "c/größe"}, e.announce(other, "c/größe", lease))
	require.Equal(e, []string{"a", "b", "c/größe"}, e.announce(e.store, "a", lease))
	require.Equal(e, []string{"a", "b", "c/größe"}, e.announce(e.store, "b", lease), "announced twice")
	require.Equal(e, []string{"a", "c/größe"}, e.announce(e.store, "b", 0))
	require.Equal(e, []string{"a", "c/größe"}, e.announce(other, "nobody", 0))
	e.acquire(0)
	require.Equal(e, []string{"a", "c/größe"}, e.announce(e.store, "nobody", 0), "it is no lease, and none ends it")
}

func checkAnnounceEnds(e *env) {
	e.announce(e.store, "a", lease)
	e.advance(lease / 2)
	e.announce(e.store, "b", lease)
	e.advance(lease / 4)
	require.Equal(e, []string{"a", "b"}, e.announce(e.store, "b", lease))
	e.advance(lease / 4)
	require.Equal(e, []string{"b"}, e.announce(e.store, "b", lease))
	e.advance(lease)
	require.Empty(e, e.announce(e.store, "c", 0))
}

// now is the store's time.
func (e *env) now() time.Time {
	e.Helper()
	now, err := e.store.Time(e.ctx)
	require.NoError(e, err, "time")
	return now
}

func checkNeverSent(e *env) {
	lane := e.acquire(0)
	require.True(e, lane.SentUntil().IsZero())
	require.NoError(e, lane.Renew(e.ctx, lease, false))
	e.advance(2 * lease)
	lane = e.acquire(0)
	require.True(e, lane.SentUntil().IsZero())
	e.release(lane)
	require.True(e, e.acquire(0).SentUntil().IsZero())
}

// A holder that dies without a word may have sent until its lease ended, and
// whoever asks later must not be told less.
func checkSentUntil(e *env) {
	lane := e.acquire(0)
	require.NoError(e, lane.Renew(e.ctx, lease, true))
	require.True(e, lane.SentUntil().IsZero(), "it is what others have sent")
	e.advance(lease / 2)
	require.NoError(e, lane.Renew(e.ctx, lease, true))
	renewed := e.now()
	if e.h.Durable {
		e.crash()
	}
	e.advance(3 * lease)
	next := e.acquire(0)
	e.around(0, next.SentUntil().Sub(renewed.Add(lease)), "the end of the lease")
	require.True(e, e.acquire(1).SentUntil().IsZero(), "another lane")
	e.advance(2 * lease)
	again := e.acquire(0)
	require.Equal(e, next.SentUntil().UnixMilli(), again.SentUntil().UnixMilli(), "a holder that did not send changes nothing")
}

func checkSentBefore(e *env) {
	lane := e.acquire(0)
	require.NoError(e, lane.Renew(e.ctx, lease, true))
	ends := e.now().Add(lease)
	e.advance(lease / 4)
	require.NoError(e, lane.Renew(e.ctx, lease, false))
	e.advance(lease / 4)
	require.NoError(e, lane.Renew(e.ctx, lease, false))
	e.advance(2 * lease)
	lane = e.acquire(0)
	e.around(0, lane.SentUntil().Sub(ends), "the end of the lease under which it sent, whatever came after")

	require.NoError(e, lane.Renew(e.ctx, lease, true))
	e.advance(lease / 4)
	released := e.now()
	e.release(lane)
	e.around(0, e.acquire(0).SentUntil().Sub(released), "when it was released")
}

func checkTime(e *env) {
	before := e.now()
	e.enqueue(message("a"))
	after := e.now()
	at := e.stored(0)[0].EnqueuedAt
	require.WithinRange(e, at, before.Truncate(time.Millisecond), after)
	e.advance(time.Hour)
	e.around(time.Hour, e.now().Sub(after), "passed")
}
