package redis

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// refused demands that a store does not open, with one clear line.
func refused(t *testing.T, rawURL string, opts Options, kind error, words ...string) {
	t.Helper()
	s, err := Open(testContext(t), rawURL, opts)
	if s != nil {
		_ = s.Close(context.Background())
	}
	require.ErrorIs(t, err, kind)
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
	require.NotContains(t, err.Error(), "\n", "one line")
	require.NotContains(t, err.Error(), "secret")
	for _, word := range words {
		require.Contains(t, err.Error(), word)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t, testenv.RedisOptions{Password: "right"})
		refused(t, "redis://:secret@"+server.Addr(), Options{}, persist.ErrUnavailable, "WRONGPASS")
		refused(t, "redis://"+server.Addr(), Options{}, persist.ErrUnavailable, "NOAUTH")
		openStore(t, server.URL(), Options{})
	})
	t.Run("a right is missing", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t, testenv.RedisOptions{
			User: "app", Password: "secret", ACL: "~{oncemq}:* &{oncemq}:* +@all -evalsha -eval",
		})
		refused(t, server.URL(), Options{}, persist.ErrUnavailable, "NOPERM")
		server = testenv.Redis(t, testenv.RedisOptions{User: "app", Password: "secret", ACL: "~{other}:* &* +@all"})
		refused(t, server.URL(), Options{}, persist.ErrUnavailable, "NOPERM")
	})
	t.Run("a server that evicts", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t, testenv.RedisOptions{MaxMemory: "50mb", MaxMemoryPolicy: "allkeys-lru"})
		refused(t, server.URL(), Options{}, persist.ErrInvalid, "maxmemory-policy is allkeys-lru", "allow_eviction=true")
		s := openStore(t, server.URL()+"?allow_eviction=true", Options{})
		require.Contains(t, s.Durability(), "allkeys-lru")
		server.Command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
		openStore(t, server.URL(), Options{}) // evicts keys that expire; none of ours does
	})
	t.Run("a server that forgets", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t, testenv.RedisOptions{NoAppendOnly: true})
		refused(t, server.URL(), Options{}, persist.ErrInvalid, "appendonly is no", "allow_volatile=true")
		s := openStore(t, server.URL()+"?allow_volatile=true", Options{})
		require.Contains(t, s.Durability(), "no append only file")
	})
	t.Run("a replica", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t, testenv.RedisOptions{})
		replica := server.Replica(t)
		refused(t, replica.URL(), Options{}, persist.ErrReadOnly, "replica")
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		refused(t, "redis://user:secret@127.0.0.1:1", Options{}, persist.ErrUnavailable)
	})
	t.Run("another store", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t, testenv.RedisOptions{})
		s := openStore(t, server.URL()+"?lanes=3", Options{})
		refused(t, server.URL(), Options{Lanes: 2}, persist.ErrInvalid, "3 lanes")
		openStore(t, server.URL(), Options{})
		server.Command("HSET", s.keys.meta, "schema", "2")
		refused(t, server.URL(), Options{}, persist.ErrSchema, "version 2")
		server.Command("HSET", s.keys.meta, "schema", "1", "identity", "nonsense")
		refused(t, server.URL(), Options{}, persist.ErrCorrupt)
		server.Command("DEL", s.keys.meta)
		server.Command("SET", s.keys.meta, "no hash")
		refused(t, server.URL(), Options{}, persist.ErrCorrupt)
	})
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"6.0.16": false, "5.0.14": false, "6.2.0": true, "7.0.15": true, "8.2.1": true, "10.0.0": true, "": true, "255.255.255": true,
	} {
		require.Equal(t, want, recent(version), version)
	}
}

// A user with the rights that the package documentation names gets all there is, but perhaps for
// what the server does not tell.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	const commands = "-@all +evalsha +eval +time +ping +hello +auth +select +publish +subscribe +unsubscribe " +
		"+exists +get +del +hget +hset +hsetnx +hmget +hgetall +hdel +hincrby +hlen +hkeys +hscan " +
		"+xadd +xdel +xrange +xtrim +zadd +zrem +zrange +zrangebyscore +zremrangebyscore +setbit +bitfield"
	for name, rest := range map[string]string{"with INFO": " +info", "alone": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t, testenv.RedisOptions{User: "app", ACL: "~{oncemq}:* &{oncemq}:* " + commands + rest})
			s := openStore(t, server.URL(), Options{})
			require.Contains(t, s.Durability(), "does not show its configuration")
			exercise(t, s)
		})
	}
	t.Run("no channel", func(t *testing.T) {
		t.Parallel()
		server := testenv.Redis(t, testenv.RedisOptions{User: "app", ACL: "~{oncemq}:* resetchannels " + commands})
		s := openStore(t, server.URL(), Options{})
		_, stop := s.Notify()
		exercise(t, s)
		stop()
	})
}

// exercise does something of everything.
func exercise(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	msgs := plainMessages("m", 6)
	msgs[0].Receipt, msgs[1].Idempotent, msgs[2].Droppable, msgs[3].Delay = true, true, true, time.Millisecond
	_, err := s.Enqueue(ctx, msgs)
	require.NoError(t, err)
	lane, err := s.AcquireLane(ctx, 0, "o", time.Hour)
	require.NoError(t, err)
	entries, err := lane.Next(ctx, 5, 1<<20)
	require.NoError(t, err)
	require.NoError(t, lane.Settle(ctx, []persist.Settlement{
		{Position: entries[0].Position, ReceiptTimeout: time.Minute},
		{Position: entries[1].Position},
		{Position: entries[2].Position, Outcome: persist.OutcomeFailed},
	}))
	_, err = lane.Acknowledge(ctx, []persist.Receipt{{ID: "m0"}})
	require.NoError(t, err)
	require.NoError(t, lane.Renew(ctx, time.Hour, true))
	letters, err := s.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	_, err = s.RetryDeadLetters(ctx, retriesOf(letters))
	require.NoError(t, err)
	_, err = s.PurgeOutbox(ctx, persist.ListRequest{Limit: 10})
	require.NoError(t, err)
	claims, err := s.Claim(ctx, persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"a", "b"}})
	require.NoError(t, err)
	_, err = s.RenewClaims(ctx, "g", claims, time.Hour)
	require.NoError(t, err)
	_, err = s.Complete(ctx, "g", []persist.Completion{{Claim: claims[0]}}, time.Second)
	require.NoError(t, err)
	require.NoError(t, s.Release(ctx, "g", claims))
	_, err = s.ExpireProcessed(ctx, 10)
	require.NoError(t, err)
	_, err = s.Forget(ctx, "g", []string{"a"})
	require.NoError(t, err)
	require.NoError(t, s.SaveSession(ctx, persist.Session{ClientID: "c", Epoch: 1, States: []persist.PacketState{{PacketID: 1, Step: persist.StepPublished}}}))
	_, err = s.LoadSession(ctx, "c", 2)
	require.NoError(t, err)
	_, err = s.AnnounceRelay(ctx, "r", time.Minute)
	require.NoError(t, err)
	_, err = s.AnnounceRelay(ctx, "r", 0)
	require.NoError(t, err)
	_, err = s.Stats(ctx)
	require.NoError(t, err)
	require.NoError(t, lane.Release(ctx))
}

// Of ten that open a new store at once, one creates it.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	rawURL := testenv.SharedRedis(t).URL()
	opts := Options{Prefix: newPrefix(), Lanes: 2}
	var all sync.WaitGroup
	identities := make([]string, 10)
	for i := range identities {
		all.Go(func() {
			s, err := Open(t.Context(), rawURL, opts)
			if err == nil {
				identities[i] = s.Identity()
				err = s.Close(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, identity := range identities {
		require.Equal(t, identities[0], identity)
	}
}

// A client of the caller's stays open, and is not made to repeat what it would
// repeat by itself.
func TestNew(t *testing.T) {
	t.Parallel()
	client := connect(t, testenv.SharedRedis(t).URL())
	defer func() { require.NoError(t, client.Close()) }()
	s, err := New(t.Context(), client, Options{Prefix: newPrefix()})
	require.NoError(t, err)
	exercise(t, s)
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, client.Ping(t.Context()).Err())
	require.True(t, onceCommand{goredis.NewCmd(t.Context(), "evalsha")}.NoRetry())

	ring := goredis.NewRing(&goredis.RingOptions{Addrs: map[string]string{"one": "127.0.0.1:1"}})
	defer func() { require.NoError(t, ring.Close()) }()
	_, err = New(t.Context(), ring, Options{})
	require.ErrorIs(t, err, persist.ErrInvalid)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := Options{Prefix: "{a}", Lanes: 65, MaxMessages: -1, WaitReplicas: -1, WaitTimeout: -1}.withDefaults()
	for _, word := range []string{"prefix", "lanes", "max_messages", "wait_replicas", "wait_timeout"} {
		require.ErrorContains(t, err, word, "all faults at once")
	}
	for prefix, want := range map[string]bool{
		"oncemq": true, "a.b_c:d-e9": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "A": false, "a{b": false, "a}b": false, "a b": false, "a\x00": false, "ä": false, "a*": false,
	} {
		require.Equal(t, want, validPrefix(prefix), prefix)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	parse := func(raw string) (connection, Options, error) {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		var opts Options
		c, err := parseURL(u, &opts)
		return c, opts, err
	}
	for raw, check := range map[string]func(c goredis.UniversalClient){
		"redis://u:p@h:1234/3": func(c goredis.UniversalClient) {
			o := c.(*goredis.Client).Options()
			require.Equal(t, []any{"h:1234", "u", "p", 3}, []any{o.Addr, o.Username, o.Password, o.DB})
			require.Zero(t, o.MaxRetries)
			require.True(t, o.DisableIdentity)
		},
		"rediss://h": func(c goredis.UniversalClient) { require.NotNil(t, c.(*goredis.Client).Options().TLSConfig) },
		"unix:///run/redis.sock?db=2": func(c goredis.UniversalClient) {
			o := c.(*goredis.Client).Options()
			require.Equal(t, []any{"unix", "/run/redis.sock", 2}, []any{o.Network, o.Addr, o.DB})
		},
		"redis+cluster://u:p@h:7000,i,j:7002": func(c goredis.UniversalClient) {
			o := c.(*goredis.ClusterClient).Options()
			require.Equal(t, []string{"h:7000", "i:6379", "j:7002"}, o.Addrs)
			require.Equal(t, "p", o.Password)
		},
		"redis+sentinel://u:p@h,i:7/main/2?sentinel_password=q": func(c goredis.UniversalClient) {
			o := c.(*goredis.Client).Options()
			require.Equal(t, []any{"u", "p", 2}, []any{o.Username, o.Password, o.DB})
		},
	} {
		c, _, err := parse(raw)
		require.NoError(t, err, raw)
		client := c.client()
		check(client)
		require.NoError(t, client.Close())
		require.NotContains(t, c.name, "p@")
	}
	_, opts, err := parse("redis://h?prefix=x&lanes=4&max_messages=9&allow_eviction=true&allow_volatile=1&wait_replicas=2&wait_timeout=3s&pool_size=7")
	require.NoError(t, err)
	require.Equal(t, Options{
		Prefix: "x", Lanes: 4, MaxMessages: 9, AllowEviction: true, AllowVolatile: true, WaitReplicas: 2, WaitTimeout: 3 * time.Second,
	}, opts)
	for raw, word := range map[string]string{
		"redis://u:secret@h?colour=red":             "colour",
		"redis://u:secret@h/nine":                   "database",
		"redis://u:secret@h?lanes=0":                "lanes",
		"redis://u:secret@h?lanes=1&lanes=2":        "lanes",
		"redis://u:secret@h?prefix=%7B":             "prefix",
		"redis://u:secret@h?max_messages=-1":        "max_messages",
		"redis://u:secret@h?allow_eviction=perhaps": "allow_eviction",
		"redis://u:secret@h?allow_volatile=perhaps": "allow_volatile",
		"redis://u:secret@h?wait_replicas=some":     "wait_replicas",
		"redis://u:secret@h?wait_timeout=long":      "wait_timeout",
		"redis://u:secret@h?pool_size=large":        "",
		"redis://u:secret@h,i":                      "several hosts",
		"redis:secret":                              "redis://",
		"redis://u:secret@h#f":                      "redis://",
		"redis+sentinel://u:secret@h":               "no master",
		"redis+sentinel://u:secret@h/main/2/3":      "",
		"redis+cluster://u:secret@h/2":              "database",
		"unix://u:secret@":                          "path",
	} {
		_, _, err := parse(raw)
		require.ErrorIs(t, err, persist.ErrInvalid, raw)
		require.ErrorContains(t, err, word)
		require.NotContains(t, err.Error(), "secret")
	}
	_, err = Open(t.Context(), "redis://u:secret@h:port", Options{})
	require.ErrorIs(t, err, persist.ErrInvalid)
	require.NotContains(t, err.Error(), "secret")
	_, err = Open(t.Context(), "redis://u:secret@h", Options{Lanes: -1})
	require.ErrorIs(t, err, persist.ErrInvalid)
}

func TestDriver(t *testing.T) {
	t.Parallel()
	for _, scheme := range (Driver{}).Schemes() {
		_, err := persist.Open(t.Context(), scheme+"://u:secret@h?lanes=nine", Driver{})
		require.ErrorIs(t, err, persist.ErrInvalid, scheme)
	}
	store, err := persist.Open(t.Context(), fmt.Sprintf("%s?prefix=%s", testenv.SharedRedis(t).URL(), newPrefix()), Driver{})
	require.NoError(t, err)
	require.NoError(t, store.Close(t.Context()))
}

// Who asks for TLS of a server that has none is told what is missing, and who asks
// nobody, that.
func TestServerWithoutTLS(t *testing.T) {
	t.Parallel()
	server := testenv.SharedRedis(t)
	_, err := Open(t.Context(), "rediss://"+server.Addr()+"/0?dial_timeout=2s", Options{})
	require.ErrorContains(t, err, "TLS handshake: ")
	require.ErrorIs(t, err, persist.ErrUnavailable)
	_, err = Open(t.Context(), "rediss://127.0.0.1:1/0", Options{})
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "TLS handshake")
}
