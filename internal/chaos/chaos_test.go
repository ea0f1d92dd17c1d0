package chaos

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chosen are the options of the environment: ONCEMQ_CHAOS_MESSAGES and
// ONCEMQ_CHAOS_FAULTS for each store, ONCEMQ_CHAOS_DURATION and ONCEMQ_CHAOS_SEED.
func chosen(t *testing.T) options {
	t.Helper()
	opts := options{
		seed: seed(t), messages: setting(t, "ONCEMQ_CHAOS_MESSAGES", 3000), faults: setting(t, "ONCEMQ_CHAOS_FAULTS", 15),
		kinds: commonFaults(), all: true,
	}
	if text := os.Getenv("ONCEMQ_CHAOS_DURATION"); text != "" {
		var err error
		opts.duration, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	rate := setting(t, "ONCEMQ_CHAOS_RATE", 1000) // messages a second
	opts.pace = 2 * batchEach * time.Second / time.Duration(rate)
	return opts
}

// All faults, one kind at a time and then in pairs, and nothing is lost, doubled,
// reordered, invented or stuck.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, name := range stores() {
		if only := os.Getenv("ONCEMQ_CHAOS_STORE"); only != "" && only != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, opts := onStore(t, name), chosen(t)
			opts.messages = opts.messages * b.weight / 100 // they are not equally fast
			r := begin(t, b, opts)
			r.conclude(r.chaos())
		})
	}
}

// stores are those that more than one process can use.
func stores() []string { return []string{"sqlite", "postgres", "redis"} }

func onStore(t *testing.T, name string) *backend {
	t.Helper()
	switch name {
	case "sqlite":
		return onSQLite(t, false)
	case "postgres":
		return onPostgres(t)
	default:
		return onRedis(t)
	}
}
