package redis

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// snapshot remembers all keys of a server. The function it returns makes them what
// they were, as a failover does to a replica that had received no more.
func snapshot(t *testing.T, server *testenv.RedisServer) (failOver func()) {
	t.Helper()
	client := connect(t, server.URL())
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	names, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	values := map[string]string{}
	for _, name := range names {
		values[name], err = client.Dump(t.Context(), name).Result()
		require.NoError(t, err)
	}
	return func() {
		t.Helper()
		require.NoError(t, client.FlushAll(t.Context()).Err())
		for name, value := range values {
			require.NoError(t, client.Restore(t.Context(), name, 0, value).Err())
		}
	}
}

// Settle once deleted accepted messages that had never been sent. A relay had read
// messages that a failover then took away, pages and all, while its older lease
// survived; other messages got their positions, and the broker's confirmations of
// the lost ones settled these. Only Next had noticed. Now whatever comes first
// under such a lease ends it, and changes nothing, even in a full store.
func TestLostPagesEndTheLease(t *testing.T) {
	t.Parallel()
	settlements := []persist.Settlement{{Position: 1}, {Position: 2, Outcome: persist.OutcomeFailed}, {Position: 3}}
	for name, use := range map[string]func(ctx context.Context, l *lane) error{
		"settle":     func(ctx context.Context, l *lane) error { return l.Settle(ctx, settlements) },
		"send again": func(ctx context.Context, l *lane) error { return l.resend(ctx, []int64{1, 2, 3}) },
		"acknowledge": func(ctx context.Context, l *lane) error {
			_, err := l.Acknowledge(ctx, []persist.Receipt{{ID: "new0"}})
			return err
		},
		"save session": func(ctx context.Context, l *lane) error {
			return l.SaveSession(ctx, "c", []persist.PacketState{{PacketID: 1, Step: persist.StepReleased, Position: 1}})
		},
		"renew":   func(ctx context.Context, l *lane) error { return l.Renew(ctx, time.Hour, true) },
		"release": func(ctx context.Context, l *lane) error { return l.Release(ctx) },
		"next": func(ctx context.Context, l *lane) error {
			_, err := l.Next(ctx, 10, 1<<20)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t, testenv.RedisOptions{})
			s := openStore(t, server.URL(), Options{})
			leased, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
			require.NoError(t, err)
			failOver := snapshot(t, server)
			_, err = s.Enqueue(t.Context(), plainMessages("lost", 3))
			require.NoError(t, err)
			entries, err := leased.Next(t.Context(), 10, 1<<20)
			require.NoError(t, err)
			require.Len(t, entries, 3)

			failOver()
			msgs := plainMessages("new", 3)
			msgs[0].Receipt = true
			places, err := s.Enqueue(t.Context(), msgs)
			require.NoError(t, err)
			require.Equal(t, entries[0].Position, places[0].Position, "given out anew")
			server.Command("CONFIG", "SET", "maxmemory", "1")
			require.ErrorIs(t, use(t.Context(), leased.(*lane)), persist.ErrLeaseLost)
			server.Command("CONFIG", "SET", "maxmemory", "0")
			require.ErrorIs(t, leased.Renew(t.Context(), time.Hour, true), persist.ErrLeaseLost, "for good")

			next, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
			require.NoError(t, err, "it can be taken at once")
			require.Equal(t, []string{"new0", "new1", "new2"}, drainAll(t, next))
		})
	}
}

// Messages that a failover takes away before the holder has read them end no
// lease: it goes on with those that got their positions.
func TestLostUnread(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{})
	_, err := s.Enqueue(t.Context(), plainMessages("read", 2))
	require.NoError(t, err)
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	entries, err := lane.Next(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	failOver := snapshot(t, server)
	_, err = s.Enqueue(t.Context(), plainMessages("lost", 3))
	require.NoError(t, err)
	failOver()
	_, err = s.Enqueue(t.Context(), plainMessages("new", 3))
	require.NoError(t, err)
	require.NoError(t, lane.Renew(t.Context(), time.Hour, true))
	require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{{Position: entries[0].Position}, {Position: entries[1].Position}}))
	require.Equal(t, []string{"new0", "new1", "new2"}, drainAll(t, lane))
}

// An epoch that was given out and then lost is not given out again.
func TestEpochsSurviveLoss(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{})
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"k"}})
	require.NoError(t, err)
	until(t, func(ctx context.Context) error { // the clock goes on by a millisecond
		now, err := s.Time(ctx)
		if err == nil && now.UnixMilli() <= max(lane.Epoch(), claims[0].Epoch) {
			err = persist.ErrUnavailable
		}
		return err
	})
	server.Command("DEL", s.keys.lanes[0].hash, s.keys.totals, s.groupOf("g").work)
	next, err := s.AcquireLane(t.Context(), 0, "other", time.Hour)
	require.NoError(t, err)
	require.Greater(t, next.Epoch(), lane.Epoch())
	require.ErrorIs(t, lane.Renew(t.Context(), time.Hour, false), persist.ErrLeaseLost)
	again, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"k"}})
	require.NoError(t, err)
	require.Greater(t, again[0].Epoch, claims[0].Epoch)
	done, err := s.Complete(t.Context(), "g", []persist.Completion{{Claim: claims[0]}}, time.Hour)
	require.NoError(t, err)
	require.Equal(t, []bool{false}, done)
}
