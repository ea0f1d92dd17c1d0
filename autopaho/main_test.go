package autopaho_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// TestMain runs the tests, or one of the processes that they start.
func TestMain(m *testing.M) {
	process := replica
	switch {
	case os.Getenv(envReplica) != "":
	case os.Getenv(envLease) != "":
		process = relayProcess
	case os.Getenv(envPoison) != "":
		process = poisoned
	case os.Getenv(envSuicide) != "":
		process = publisherProcess
	default:
		goleak.VerifyTestMain(m)
		return
	}
	if err := process(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // the main function of the process
	}
}

// within bounds a test's waits.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually asks again and again until ok is true. It does so on the test's own
// goroutine, so that ok may fail the test: what require.Eventually asks may still
// be running when the test is over.
func eventually(t *testing.T, ok func() bool, within, every time.Duration, what string, args ...any) {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(within); !ok(); <-tick.C {
		if time.Now().After(end) {
			require.FailNow(t, "did not come true: "+fmt.Sprintf(what, args...), "within %s", within)
		}
	}
}

func startBroker(t *testing.T, o brokertest.Options) *brokertest.Broker {
	t.Helper()
	b, err := brokertest.NewBroker(o)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

func memoryStore(t *testing.T) persist.Store {
	t.Helper()
	s := memory.New(memory.Options{})
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// client makes a client that is closed with the test.
func client(t *testing.T, cfg autopaho.Config) *autopaho.Client {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(logWriter{t}, nil))
	}
	c, err := autopaho.New(within(t, 5*time.Second), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(within(t, 10*time.Second))) })
	return c
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}
