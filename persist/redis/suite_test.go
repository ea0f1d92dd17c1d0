package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// frozen is a clock that the key clock sets.
const frozen = "local now = tonumber(redis.call('GET', '{%s}:clock'))\n"

// epoch is the time at which frozen clocks begin.
const epoch = 1_700_000_000_123

// harness tells the suite what a store on a server can do: everything but
// transactions.
func harness(url string) persisttest.Harness {
	return persisttest.Harness{
		New: func(t persisttest.T, opts persisttest.Options) persisttest.Backend {
			return newBackend(t, url, opts)
		},
		Durable: true, Shared: true, FrozenClock: true, Notifies: true, Corrupts: true,
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	persisttest.Run(t, harness(testenv.SharedRedis(t).URL()))
}

func TestModel(t *testing.T) {
	t.Parallel()
	persisttest.RunModel(t, harness(testenv.SharedRedis(t).URL()))
}

func TestLinearizable(t *testing.T) {
	t.Parallel()
	persisttest.RunLinearizable(t, harness(testenv.SharedRedis(t).URL()))
}

// newPrefix is a prefix that nothing else has.
func newPrefix() string { return "test:" + strings.ToLower(rand.Text()) }

// backend opens the handles of one prefix.
type backend struct {
	t      persisttest.T
	url    string
	opts   Options
	client goredis.UniversalClient
	now    int64
}

func newBackend(t persisttest.T, url string, opts persisttest.Options) *backend {
	prefix := newPrefix()
	b := &backend{t: t, url: url, now: epoch}
	b.opts = Options{Prefix: prefix, Lanes: opts.Lanes, MaxMessages: opts.Limits.Messages, MaxBytes: opts.Limits.Bytes, MaxAge: opts.Limits.Age, clock: fmt.Sprintf(frozen, prefix)}
	b.client = connect(t, url)
	t.Cleanup(func() {
		require.NoError(t, b.client.Close())
	})
	b.Advance(0)
	return b
}

func (b *backend) Open(ctx context.Context) (persist.Store, error) {
	return Open(ctx, b.url, b.opts)
}

func (b *backend) Advance(d time.Duration) {
	b.now += d.Milliseconds()
	require.NoError(b.t, b.client.Set(context.Background(), "{"+b.opts.Prefix+"}:clock", b.now, 0).Err())
}

func (b *backend) CorruptMessage(ctx context.Context, ref persist.Ref) error {
	// An entry of a stream cannot be changed: its lane is written anew.
	k := newKeys(b.opts.Prefix)
	k.setLanes(maxLanes)
	messages := k.lanes[ref.Lane].messages
	entries, err := b.client.XRange(ctx, messages, "-", "+").Result()
	if err != nil {
		return err
	}
	if err := b.client.Del(ctx, messages).Err(); err != nil {
		return err
	}
	for _, e := range entries {
		body := e.Values["b"].(string)
		if strings.HasPrefix(e.ID, fmt.Sprintf("%d-", ref.Position)) {
			body = body[:len(body)-1]
		}
		values := []any{"b", body}
		if x, ok := e.Values["x"]; ok {
			values = append(values, "x", x)
		}
		if err := b.client.XAdd(ctx, &goredis.XAddArgs{Stream: messages, ID: e.ID, Values: values}).Err(); err != nil {
			return err
		}
	}
	return nil
}

func (b *backend) CorruptDeadLetter(ctx context.Context, number int64) error {
	k := newKeys(b.opts.Prefix)
	entries, err := b.client.XRange(ctx, k.dead, "-", "+").Result()
	if err != nil {
		return err
	}
	if err := b.client.Del(ctx, k.dead).Err(); err != nil {
		return err
	}
	for _, e := range entries {
		if e.ID == fmt.Sprintf("%d-0", number) {
			e.Values["body"] = "\x01"
		}
		if err := b.client.XAdd(ctx, &goredis.XAddArgs{Stream: k.dead, ID: e.ID, Values: e.Values}).Err(); err != nil {
			return err
		}
	}
	return nil
}

func (b *backend) CorruptSession(ctx context.Context, clientID string) error {
	k := newKeys(b.opts.Prefix)
	states, err := b.client.HGet(ctx, k.session(clientID), "states").Result()
	if err != nil {
		return err
	}
	return b.client.HSet(ctx, k.session(clientID), "states", states[:len(states)-1]).Err()
}
