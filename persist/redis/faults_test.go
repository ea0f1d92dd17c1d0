package redis

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// patience is how long a test waits for what has to come.
const patience = 20 * time.Second

// testContext ends after patience.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// openStore opens a store that is closed when the test ends.
func openStore(t *testing.T, url string, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func plainMessages(prefix string, n int) []persist.Message {
	msgs := make([]persist.Message, n)
	for i := range msgs {
		msgs[i] = persist.Message{ID: fmt.Sprint(prefix, i), Topic: "t", Payload: []byte("payload"), QoS: 1}
	}
	return msgs
}

// until tries again until fn has no error, or patience ends.
func until(t *testing.T, fn func(ctx context.Context) error) {
	t.Helper()
	ctx := testContext(t)
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := fn(ctx)
		if err == nil {
			return
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			require.NoError(t, err, "it did not come right in time")
		}
	}
}

func drainAll(t *testing.T, lane persist.Lane) (ids []string) {
	t.Helper()
	for {
		entries, err := lane.Next(t.Context(), 100, 1<<20)
		require.NoError(t, err)
		if len(entries) == 0 {
			return ids
		}
		settlements := make([]persist.Settlement, len(entries))
		for i := range entries {
			ids = append(ids, entries[i].Message.ID)
			settlements[i].Position = entries[i].Position
		}
		require.NoError(t, lane.Settle(t.Context(), settlements))
	}
}

// A server that forgets its scripts is told them again.
func TestScriptsFlushed(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{})
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	for i := range 3 {
		_, err := s.Enqueue(t.Context(), plainMessages(fmt.Sprint("m", i, "."), 2))
		require.NoError(t, err)
		server.Command("SCRIPT", "FLUSH")
		require.Len(t, drainAll(t, lane), 2)
	}
}

// With appendfsync always, what was answered outlives kill -9; a server that
// loads its data is unavailable meanwhile.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{AppendFsync: "always"})
	s := openStore(t, server.URL(), Options{})
	require.Contains(t, s.Durability(), "survives the loss of power")
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	var want []string
	for i := range 20 {
		msgs := plainMessages(fmt.Sprint("m", i, "."), 5)
		_, err := s.Enqueue(t.Context(), msgs)
		require.NoError(t, err)
		for _, m := range msgs {
			want = append(want, m.ID)
		}
	}
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"a", "b"}})
	require.NoError(t, err)
	_, err = s.Complete(t.Context(), "g", []persist.Completion{{Claim: claims[0]}}, time.Hour)
	require.NoError(t, err)
	server.Kill()
	_, err = s.Enqueue(t.Context(), plainMessages("down", 1))
	require.ErrorIs(t, err, persist.ErrUnavailable)
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome, "nobody was there to do it")
	_, err = s.Stats(t.Context())
	require.ErrorIs(t, err, persist.ErrUnavailable)
	server.Start()
	until(t, func(ctx context.Context) error {
		_, err := s.Stats(ctx)
		return err
	})
	require.Equal(t, want, drainAll(t, lane), "under the same lease")
	claims, err = s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"a", "b"}})
	require.NoError(t, err)
	require.Equal(t, persist.ClaimCompleted, claims[0].State)
	require.Equal(t, persist.ClaimBusy, claims[1].State)
}

// A full server takes nothing more in, and can be drained; then there is room
// again.
func TestMemoryFull(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{})
	msgs := plainMessages("m", 500)
	for i := range msgs {
		msgs[i].Payload = make([]byte, 1000)
		msgs[i].Receipt = i%10 == 0
	}
	accepted := 0
	for range 4 {
		_, err := s.Enqueue(t.Context(), msgs)
		require.NoError(t, err)
		accepted += len(msgs)
	}
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"a", "b"}})
	require.NoError(t, err)
	server.Command("CONFIG", "SET", "maxmemory", "1mb")

	_, err = s.Enqueue(t.Context(), msgs)
	require.ErrorIs(t, err, persist.ErrStoreFull)
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
	_, err = s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"c"}})
	require.ErrorIs(t, err, persist.ErrStoreFull)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, accepted, stats.Pending, "a refused call left something")
	require.EqualValues(t, 2, stats.InWork)

	// All that lets the store shrink goes on.
	done, err := s.Complete(t.Context(), "g", []persist.Completion{{Claim: claims[0]}}, time.Hour)
	require.NoError(t, err)
	require.Equal(t, []bool{true}, done)
	require.NoError(t, s.Release(t.Context(), "g", claims[1:]))
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	require.NoError(t, lane.Renew(t.Context(), time.Hour, true))
	entries, err := lane.Next(t.Context(), 1, 1<<20)
	require.NoError(t, err)
	require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{{
		Position: entries[0].Position, Outcome: persist.OutcomeRetry, Reason: "busy",
	}}), "and so does what is not a deletion")
	states := []persist.PacketState{{PacketID: 1, Step: persist.StepPublished, Position: entries[0].Position}}
	require.NoError(t, lane.SaveSession(t.Context(), "c", states), "and QoS 2")
	loaded, err := s.LoadSession(t.Context(), "c", lane.Epoch()+1)
	require.NoError(t, err)
	require.Equal(t, states, loaded)
	require.Len(t, drainAll(t, lane), accepted-1)
	stats, err = s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Pending)
	require.EqualValues(t, accepted/10-1, stats.Delivered)

	server.Command("CONFIG", "SET", "maxmemory", "100mb")
	_, err = s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
}

// A change whose answer was lost may have happened. It is told so, and the
// client does not do it a second time, even one of the caller's that repeats
// other commands.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, url string) *Store{
		"own client": func(t *testing.T, url string) *Store {
			t.Helper()
			return openStore(t, url, Options{})
		},
		"caller's client": func(t *testing.T, url string) *Store {
			t.Helper()
			o, err := goredis.ParseURL(url)
			require.NoError(t, err)
			require.Zero(t, o.MaxRetries, "the client's default, which is not none")
			client := goredis.NewClient(o)
			t.Cleanup(func() { require.NoError(t, client.Close()) })
			s, err := New(t.Context(), client, Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answerLost(t, open)
		})
	}
}

func answerLost(t *testing.T, open func(t *testing.T, url string) *Store) {
	t.Helper()
	server := testenv.Redis(t, testenv.RedisOptions{})
	direct := openStore(t, server.URL(), Options{})
	proxy := fault.Start(t, server.Addr())
	s := open(t, server.URLAt(proxy.Addr()))
	lane, err := direct.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	// The server knows the script, so that the first answer is the one to lose.
	_, err = direct.Enqueue(t.Context(), plainMessages("first", 1))
	require.NoError(t, err)
	require.Len(t, drainAll(t, lane), 1)
	for _, how := range []fault.How{fault.RST, fault.FIN} {
		until(t, func(ctx context.Context) error {
			_, err := s.Lanes(ctx)
			return err
		})
		proxy.StopReading(fault.ToClient, true)
		lost := make(chan error, 1)
		go func() {
			_, err := s.Enqueue(context.Background(), plainMessages("m", 3))
			lost <- err
		}()
		until(t, func(ctx context.Context) error {
			stats, err := direct.Stats(ctx)
			if err == nil && stats.Pending == 0 {
				err = persist.ErrNotFound
			}
			return err
		})
		proxy.CutAll(how)
		proxy.Clear()
		require.ErrorIs(t, <-lost, persist.ErrUnknownOutcome)
		require.Equal(t, []string{"m0", "m1", "m2"}, drainAll(t, lane), "once")
	}
}

// A read has no outcome that could be unknown.
func TestReadLost(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	proxy := fault.Start(t, server.Addr())
	s := openStore(t, server.URLAt(proxy.Addr()), Options{})
	proxy.CutAfter(fault.ToClient, 3, fault.RST)
	_, err := s.Lanes(t.Context())
	require.ErrorIs(t, err, persist.ErrUnavailable)
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
}

// A caller whose patience ends while the server is silent is answered then.
func TestServerSilent(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{})
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	server.Pause()
	for name, call := range map[string]func(ctx context.Context) error{
		"enqueue": func(ctx context.Context) error {
			_, err := s.Enqueue(ctx, plainMessages("m", 1))
			return err
		},
		"renew": func(ctx context.Context) error { return lane.Renew(ctx, time.Hour, false) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		begun := time.Now()
		err := call(ctx)
		require.ErrorIs(t, err, persist.ErrUnknownOutcome, name)
		require.Less(t, time.Since(begun), 3*time.Second, name)
		cancel()
	}
	server.Continue()
	until(t, func(ctx context.Context) error { return lane.Renew(ctx, time.Hour, false) })
}

// Bytes that no store has written are neither taken for something nor stop
// anything.
func TestDamagedBytes(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{})
	msgs := plainMessages("m", 3)
	for i := range msgs {
		msgs[i].Receipt = true
	}
	_, err := s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	server.Command("HSET", s.keys.lanes[0].states, "1", "x", "2", strings.Repeat("\xff", 13))
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	entries, err := lane.Next(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	_, err = s.Stats(t.Context())
	require.NoError(t, err)

	g := s.groupOf("g")
	field := fieldOf("k")
	server.Command("HSET", g.work, field, "x")
	server.Command("HSET", g.bucket(bucketOf(field)), field, "y")
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"k"}})
	require.NoError(t, err)
	require.Equal(t, persist.ClaimGranted, claims[0].State)
	server.Command("HSET", s.keys.totals, "sweep", "nonsense")
	_, err = s.ExpireProcessed(t.Context(), 10)
	require.NoError(t, err)

	server.Command("DEL", s.keys.lanes[0].messages)
	server.Command("SET", s.keys.lanes[0].messages, "no stream")
	_, err = s.Enqueue(t.Context(), plainMessages("n", 1))
	require.ErrorIs(t, err, persist.ErrCorrupt)
}

// Two stores on one server see nothing of each other.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	a := openStore(t, server.URL(), Options{Prefix: "a"})
	b := openStore(t, server.URL(), Options{Prefix: "a:lane:0"})
	require.NotEqual(t, a.Identity(), b.Identity())
	_, err := b.Enqueue(t.Context(), plainMessages("b", 2))
	require.NoError(t, err)
	before := server.Command("DBSIZE")
	_, err = a.Enqueue(t.Context(), plainMessages("a", 2))
	require.NoError(t, err)
	_, err = a.PurgeOutbox(t.Context(), persist.ListRequest{Limit: 10})
	require.NoError(t, err)
	_, err = a.ExpireProcessed(t.Context(), 10)
	require.NoError(t, err)
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, stats.Pending)
	require.NotEqual(t, before, server.Command("DBSIZE"))
	for key := range strings.Lines(server.Command("KEYS", "*")) {
		require.Regexp(t, `^\{a(:lane:0)?\}:`, key)
	}
}
