package autopaho_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// envPoison is the mode of a consumer process whose handler kills it, the test
// binary started once more. It gets envBroker and envStore as well.
const envPoison = "ONCEMQ_TEST_POISON"

// poisoned handles messages until it is told to end, or meets a poison message: then
// it is gone, as by the OOM killer.
func poisoned() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, err := persist.Open(ctx, os.Getenv(envStore), sqlite.Driver{}, postgres.Driver{}, redis.Driver{})
	if err != nil {
		return err
	}
	c, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{os.Getenv(envBroker)}, ClientID: "poisoned", Store: store, Relay: autopaho.RelayConfig{Off: true},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	handle := func(m *autopaho.Received) {
		if string(m.Payload) == "poison" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		<-time.After(time.Millisecond) // a handler has something to do; nothing waits for it
		fmt.Println("done " + m.ID)
	}
	many := func(msgs []*autopaho.Received) {
		for _, m := range msgs {
			handle(m)
		}
	}
	cfg := autopaho.SubscribeConfig{Filters: []string{"work/#"}, Group: "g", Lease: time.Second, Attempts: 4}
	switch os.Getenv(envPoison) {
	case "leased":
		cfg.Handler = func(_ context.Context, m *autopaho.Received) error { handle(m); return nil }
	case "leased batch":
		cfg.BatchHandler = func(_ context.Context, msgs []*autopaho.Received) error { many(msgs); return nil }
	case "sql":
		cfg.TxHandler = autopaho.InTx(func(_ context.Context, _ *sql.Tx, m *autopaho.Received) error { handle(m); return nil })
	case "sql batch":
		cfg.TxHandler = autopaho.BatchInTx(func(_ context.Context, _ *sql.Tx, msgs []*autopaho.Received) error { many(msgs); return nil })
	case "pgx":
		cfg.TxHandler = autopaho.InTx(func(_ context.Context, _ pgx.Tx, m *autopaho.Received) error { handle(m); return nil })
	case "pgx batch":
		cfg.TxHandler = autopaho.BatchInTx(func(_ context.Context, _ pgx.Tx, msgs []*autopaho.Received) error { many(msgs); return nil })
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

// A message that kills whatever process handles it is stopped, across all restarts,
// after as many attempts as it may have; and nothing else is given up, though all
// that was in work with it died as often.
func TestPoisonThatKillsIsStopped(t *testing.T) {
	t.Parallel()
	urls := map[string]func(t *testing.T) string{
		"sqlite": func(t *testing.T) string { t.Helper(); return "sqlite://" + filepath.Join(t.TempDir(), "store.db") },
		"postgres": func(t *testing.T) string {
			t.Helper()
			return testenv.SharedPostgres(t).NewDatabase().URL()
		},
		"redis": func(t *testing.T) string {
			t.Helper()
			return fmt.Sprintf("%s?prefix=poison.%d", testenv.SharedRedis(t).URL(), time.Now().UnixNano())
		},
	}
	for kind, modes := range map[string][]string{
		"sqlite":   {"leased", "leased batch", "sql", "sql batch"},
		"postgres": {"leased", "leased batch", "pgx", "pgx batch"},
		"redis":    {"leased", "leased batch"},
	} {
		for _, mode := range modes {
			t.Run(kind+" "+mode, func(t *testing.T) {
				t.Parallel()
				checkPoison(t, urls[kind](t), mode)
			})
		}
	}
}

func checkPoison(t *testing.T, url, mode string) {
	t.Helper()
	const n, bad, attempts = 120, 2, 4
	ctx := within(t, 4*time.Minute)
	b := startBroker(t, brokertest.Options{})
	start := func() *testenv.Process {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), envPoison+"="+mode, envBroker+"="+b.URL(), envStore+"="+url)
		return testenv.Start(t, cmd)
	}
	// The session is there before the messages.
	first := start()
	_, err := first.Stdout.WaitFor(ctx, func(line string) bool { return line == "ready" })
	require.NoError(t, err)
	store := opened(t, url)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
	first.Terminate()
	require.Zero(t, first.Wait(20*time.Second))
	for i := range n {
		m := autopaho.Message{ID: fmt.Sprintf("m-%03d", i), Topic: fmt.Sprintf("work/%d", i%10), QoS: 1, Payload: []byte("x")}
		if i == bad {
			m.Payload = []byte("poison")
		}
		_, err := pub.Publish(ctx, m)
		require.NoError(t, err)
	}
	done := map[string]bool{}
	kills := 0
	for {
		p := start()
		for p.Running() && len(done) < n-1 {
			stop, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			_, _ = p.Stdout.WaitFor(stop, func(string) bool { return false })
			cancel()
			collect(p, done)
			require.NoError(t, ctx.Err(), "%d kills, %d done", kills, len(done))
		}
		if !p.Running() {
			collect(p, done)
			kills++
			require.LessOrEqual(t, kills, attempts, "it was run once too often")
			continue
		}
		letters := func() []persist.DeadLetter {
			letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 100)
			require.NoError(t, err)
			return letters
		}
		require.Eventually(t, func() bool { return len(letters()) == 1 || !p.Running() }, time.Minute, 20*time.Millisecond)
		if !p.Running() {
			kills++
			require.LessOrEqual(t, kills, attempts, "it was run once too often")
			continue
		}
		all := letters()
		require.Len(t, all, 1, "nothing else is given up")
		require.Equal(t, fmt.Sprintf("m-%03d", bad), all[0].Message.ID)
		require.Equal(t, fmt.Sprintf("begun %d times without an end; its process died each time, or lost its claim", attempts), all[0].Reason)
		require.Equal(t, attempts, all[0].Attempts)
		require.Equal(t, attempts, kills)
		require.Len(t, done, n-1)
		p.Terminate()
		require.Zero(t, p.Wait(20*time.Second))
		return
	}
}

// collect adds the messages that a process says it is done with.
func collect(p *testenv.Process, done map[string]bool) {
	for _, line := range p.Stdout.Lines() {
		if id, ok := strings.CutPrefix(line, "done "); ok {
			done[id] = true
		}
	}
}
