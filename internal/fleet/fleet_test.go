package fleet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
)

const (
	keys           = 200
	lanes          = 4
	receiveMaximum = 50
	// mosquitto sends beyond our Receive Maximum; that much is taken in.
	excess     = 1024
	relayLease = 5 * time.Second
	batch      = 100
)

// server is the store's.
type server interface {
	URL() string
	Kill()
	Stop()
	Start()
}

// variant is the fleet on one kind of store.
type variant struct {
	store *storeURL
	// effects is the file of the effects; empty for a table in the database.
	effects string
	count   func() effects
}

type storeURL struct {
	server server
	url    string
}

// effects are what the handlers of all subscribers did.
type effects struct{ all, different, most int }

// messages is how many are sent; ONCEMQ_FLEET_MESSAGES says another number.
func messages(t *testing.T) int {
	t.Helper()
	text := os.Getenv("ONCEMQ_FLEET_MESSAGES")
	if text == "" {
		return 10_000
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// seed decides what the nemesis does, and when; ONCEMQ_FLEET_SEED repeats a run.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if text := os.Getenv("ONCEMQ_FLEET_SEED"); text != "" {
		var err error
		n, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("ONCEMQ_FLEET_SEED=%d", n)
	return n
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	pg.Exec("CREATE TABLE effects (n bigserial, id text, key text, seq text)") // no unique constraint: it would hide doubles
	run(t, variant{
		store: &storeURL{pg, withQuery(pg.URL(), "lanes="+strconv.Itoa(lanes))},
		count: func() effects {
			var e effects
			answer := pg.Exec("SELECT coalesce(sum(c), 0) || ' ' || count(*) || ' ' || coalesce(max(c), 0) " +
				"FROM (SELECT count(*) AS c FROM effects GROUP BY id) AS counted")
			_, err := fmt.Sscan(answer, &e.all, &e.different, &e.most)
			require.NoError(t, err, answer)
			return e
		},
	})
}

func TestRedis(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, testenv.RedisOptions{AppendFsync: "always"})
	file := filepath.Join(t.TempDir(), "effects")
	run(t, variant{
		store:   &storeURL{r, withQuery(r.URL(), "lanes="+strconv.Itoa(lanes))},
		effects: file,
		count:   func() effects { return countLines(t, file) },
	})
}

func withQuery(url, more string) string {
	if strings.Contains(url, "?") {
		return url + "&" + more
	}
	return url + "?" + more
}

// run sends messages through a fleet of two relays and three subscribers, while
// the nemesis is at work, and looks at what came of them.
func run(t *testing.T, v variant) {
	t.Helper()
	n := messages(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	random := rand.New(rand.NewPCG(seed(t), 1))
	broker := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0"}})
	seen := observe(t, ctx, broker.URL())

	store, err := persist.Open(ctx, v.store.url, postgres.Driver{}, redis.Driver{})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close(context.Background())) }()
	producer, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{broker.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, producer.Close(context.Background())) }()

	oncemq, worker := testenv.Build(t, "./cmd/oncemq"), testenv.Build(t, "./internal/fleet/worker")
	var members []*member
	for i := range 2 {
		members = append(members, newMember(t, fmt.Sprintf("relay %d", i), func() *exec.Cmd {
			return exec.Command(oncemq, "relay", "--broker", broker.URL(), "--store", v.store.url)
		}))
	}
	for i := range 3 {
		members = append(members, newMember(t, fmt.Sprintf("subscriber %d", i), func() *exec.Cmd {
			cmd := exec.Command(worker)
			cmd.Env = append(os.Environ(), "FLEET_STORE="+v.store.url, "FLEET_BROKER="+broker.URL(),
				fmt.Sprintf("FLEET_ID=subscriber-%d", i), "FLEET_EFFECTS="+v.effects,
				fmt.Sprintf("FLEET_RECEIVE_MAXIMUM=%d", receiveMaximum))
			return cmd
		}))
	}
	// Nobody subscribes before a message is sent: it would be lost at the broker.
	for _, m := range members[2:] {
		_, err := m.running().Stdout.WaitFor(ctx, func(line string) bool { return line == "ready" })
		require.NoError(t, err)
	}

	t.Log("ready")
	bad := &nemesis{t: t, random: random, members: members, lease: relayLease}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		produce(ctx, t, producer, n)
	}()
	restarts := 0
	began := time.Now()
	for busy := true; busy || restarts < 2; {
		for _, m := range members {
			m.supervise()
		}
		bad.strike(sent)
		bad.wait(sent, time.Second/2+time.Duration(random.Int64N(int64(2*time.Second))))
		different, _ := seen.messages()
		if restarts < 2 && (different > (restarts+1)*n/3 || !busy) {
			restarts++
			if random.IntN(2) == 0 {
				v.store.server.Kill()
			} else {
				v.store.server.Stop()
			}
			bad.wait(nil, time.Duration(random.Int64N(int64(2*time.Second))))
			v.store.server.Start()
		}
		select {
		case <-sent:
			busy = false
		default:
		}
	}
	faults := time.Since(began)
	for _, m := range members {
		m.supervise()
	}

	await(ctx, t, "the outbox is empty", func() bool {
		stats, err := store.Stats(ctx)
		return err == nil && stats.Pending == 0
	})
	await(ctx, t, "every message has arrived", func() bool { different, _ := seen.messages(); return different == n })
	await(ctx, t, "every message has its effect", func() bool { return v.count().different == n })
	for _, m := range members {
		m.running().Terminate()
	}
	ending := time.Now()
	for _, m := range members {
		m.ended()
		t.Logf("%s has ended after %s", m.name, time.Since(ending).Round(time.Millisecond))
	}

	_, again := seen.messages()
	e := v.count()
	t.Logf("%d messages over %d keys in %s: %d kills, %d stops, %d ends, %d restarts of the store; "+
		"%d arrived again, %d effects beyond the first", n, keys, faults.Round(time.Second),
		bad.kills, bad.stops, bad.ends, restarts, again, e.all-e.different)
	require.Empty(t, seen.disordered(), "the order of a key was lost")
	require.Equal(t, n, e.different)
	stats, err := store.Stats(ctx)
	require.NoError(t, err)
	require.Zero(t, stats.Failed+stats.Expired+stats.ConsumerDead, "dead letters")
	if v.effects == "" {
		require.Equal(t, n, e.all, "effects beyond the first, in one transaction with their marks")
		return
	}
	require.LessOrEqual(t, e.all-n, (bad.kills+bad.stops+restarts)*(receiveMaximum+excess),
		"more than what was in work when a subscriber died or its claims ran out")
}

// await waits for a condition that only processes can bring about.
func await(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	began := time.Now()
	defer func() { t.Logf("%s after %s", what, time.Since(began).Round(100*time.Millisecond)) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.FailNow(t, "waited in vain until "+what)
		}
	}
}

// produce enqueues sequences 0, 1, 2, … of every key. A batch is tried again
// under the same message IDs until it is stored, before the next one is begun.
func produce(ctx context.Context, t *testing.T, client *autopaho.Client, n int) {
	t.Helper()
	for i := 0; i < n; i += batch {
		msgs := make([]autopaho.Message, min(batch, n-i))
		for j := range msgs {
			id, err := uuid.NewV7()
			if err != nil {
				t.Error(err)
				return
			}
			msgs[j] = autopaho.Message{
				ID: id.String(), Topic: "fleet/" + strconv.Itoa((i+j)%keys), Payload: []byte(strconv.Itoa((i + j) / keys)),
			}
		}
		for {
			_, err := client.Enqueue(ctx, msgs...)
			if err == nil {
				break
			}
			if !errors.Is(err, persist.ErrUnavailable) && !errors.Is(err, persist.ErrUnknownOutcome) {
				t.Errorf("enqueue: %v", err)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
		// So slowly that there is time for many faults.
		select {
		case <-ctx.Done():
			return
		case <-time.After(pace):
		}
	}
}

// pace is between two batches: 2,000 messages a second at most.
const pace = batch * time.Second / 2000

func countLines(t *testing.T, path string) effects {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return effects{}
	}
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	seen := make(map[string]int)
	var e effects
	for s := bufio.NewScanner(f); s.Scan(); {
		id, _, _ := strings.Cut(s.Text(), " ")
		seen[id]++
		e.all++
		e.most = max(e.most, seen[id])
	}
	e.different = len(seen)
	return e
}
