package autopaho_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// The environment of a replica process: the test binary started once more.
const (
	envReplica = "ONCEMQ_TEST_REPLICA" // its client ID; set in replicas only
	envBroker  = "ONCEMQ_TEST_BROKER"
	envStore   = "ONCEMQ_TEST_STORE"
	envEffects = "ONCEMQ_TEST_EFFECTS" // a file to append to; empty for transactional mode
	envBatch   = "ONCEMQ_TEST_BATCH"   // not empty: many messages at once
)

func insertEffect(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO effects (id) VALUES (?)", m.ID)
	return err
}

// replica subscribes until it is told to end, or killed.
func replica() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// Another replica writes nearly all the time, and SQLite has no queue.
	store, err := sqlite.Open(ctx, os.Getenv(envStore), sqlite.Options{BusyTimeout: 30 * time.Second})
	if err != nil {
		return err
	}
	c, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{os.Getenv(envBroker)}, ClientID: os.Getenv(envReplica), Store: store,
		ReceiveMaximum: replicaWindow, Relay: autopaho.RelayConfig{Off: true},
	})
	if err != nil {
		return err
	}
	// A lease that a busy machine does not let run out: whose claim is taken over while it
	// lives has an effect more.
	cfg := autopaho.SubscribeConfig{Filters: []string{"twice/#"}, Group: "replicas", Lease: 10 * time.Second}
	if path := os.Getenv(envEffects); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		cfg.Handler = func(_ context.Context, m *autopaho.Received) error {
			_, err := fmt.Fprintln(f, m.ID) // one write: survives kill -9 whole
			return err
		}
	} else {
		cfg.TxHandler = autopaho.InTx(func(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
			return insertEffect(ctx, tx, m)
		})
		if os.Getenv(envBatch) != "" {
			cfg.TxHandler = autopaho.BatchInTx(func(ctx context.Context, tx *sql.Tx, msgs []*autopaho.Received) error {
				for _, m := range msgs {
					if err := insertEffect(ctx, tx, m); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if _, err := c.Subscribe(ctx, cfg); err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.Close(end); err != nil {
		return err
	}
	return store.Close(end)
}

const replicaWindow = 50

// Two replica processes, one group, one SQLite file, a real broker; every
// message is sent twice under its message ID, and one replica is killed with -9
// in the middle and started again.
func TestReplicasProcessOnceAcrossKill(t *testing.T) {
	t.Parallel()
	const n = 20_000
	for _, mode := range []string{"transactional", "transactional-batch", "leased"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 8*time.Minute)
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0"}})
			dir := t.TempDir()
			file := filepath.Join(dir, "store.db")
			store, err := sqlite.Open(ctx, file, sqlite.Options{})
			require.NoError(t, err)
			require.NoError(t, store.Close(ctx))
			db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			_, err = db.ExecContext(ctx, "CREATE TABLE effects (id TEXT)") // no unique constraint: it would hide doubles
			require.NoError(t, err)

			effects := ""
			if mode == "leased" {
				effects = filepath.Join(dir, "effects")
			}
			count := func() (all, different, most int) {
				if effects == "" {
					require.NoError(t, db.QueryRowContext(ctx,
						"SELECT coalesce(sum(c), 0), count(*), coalesce(max(c), 0) FROM (SELECT count(*) AS c FROM effects GROUP BY id)").
						Scan(&all, &different, &most))
					return all, different, most
				}
				return countLines(t, effects)
			}
			batch := ""
			if mode == "transactional-batch" {
				batch = "on"
			}
			start := func(id string) *testenv.Process {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), envReplica+"="+id, envBroker+"="+m.URL(), envStore+"="+file, envEffects+"="+effects, envBatch+"="+batch)
				p := testenv.Start(t, cmd)
				_, err := p.Stdout.WaitFor(ctx, func(line string) bool { return line == "ready" })
				require.NoError(t, err)
				return p
			}
			one, two := start("replica-1-"+mode), start("replica-2-"+mode)

			for range 2 { // the same messages from two publishers
				pub := client(t, autopaho.Config{Servers: []string{m.URL()}, Store: memoryStore(t)})
				for i := 0; i < n; i += 1000 {
					msgs := make([]autopaho.Message, 1000)
					for j := range msgs {
						msgs[j] = autopaho.Message{
							ID: fmt.Sprintf("m-%05d", i+j), Topic: fmt.Sprintf("twice/%d", (i+j)%50), Payload: []byte("x"),
						}
					}
					_, err := pub.Enqueue(ctx, msgs...)
					require.NoError(t, err)
				}
			}
			eventually(t, func() bool { _, d, _ := count(); return d > n/10 }, time.Minute, 10*time.Millisecond, "a tenth is done")
			_, atKill, _ := count()
			require.Less(t, atKill, n, "the replica was killed too late to prove anything")
			one.Kill()
			one = start("replica-1-" + mode)

			eventually(t, func() bool { _, d, _ := count(); return d == n }, 5*time.Minute, 100*time.Millisecond, "all is done")
			one.Terminate()
			two.Terminate()
			require.Zero(t, one.Wait(10*time.Second))
			require.Zero(t, two.Wait(10*time.Second))
			all, different, most := count()
			require.Equal(t, n, different, "messages without an effect")
			t.Logf("%s: %d effects of %d messages", mode, all, n)
			if mode != "leased" {
				require.Equal(t, n, all, "effects beyond the first")
				return
			}
			require.LessOrEqual(t, most, 2)
			// In work at the kill was what had not been acknowledged: the
			// Receive Maximum, and what mosquitto sends beyond it.
			require.LessOrEqual(t, all-n, replicaWindow+1024, "more than what was in work at the kill")
		})
	}
}

func countLines(t *testing.T, path string) (all, different, most int) {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return 0, 0, 0
	}
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	seen := map[string]int{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		id := strings.TrimSpace(s.Text())
		seen[id]++
		all++
		most = max(most, seen[id])
	}
	require.NoError(t, s.Err())
	return all, len(seen), most
}
