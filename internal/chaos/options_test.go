package chaos

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// options say how much is done.
type options struct {
	seed     uint64
	messages int
	faults   int
	duration time.Duration // if not zero, go on for so long
	lease    time.Duration
	pace     time.Duration // between two orders of a producer
	tags     string        // of the workers' build
	env      map[string][]string
	kinds    []faultKind
	all      bool // the kinds of the store, too
	singly   bool // each kind once, none with another
	handler  int  // milliseconds
	relays   int  // 2 if zero
	receipts bool
	most     int64 // messages to store at most; 0 for no limit
	limit    time.Duration
	qos      byte
	deny     string // a topic that the broker does not let anybody publish to
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// seed is that of the environment, or a new one.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64() >> 1
	if text := os.Getenv("ONCEMQ_CHAOS_SEED"); text != "" {
		var err error
		n, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("ONCEMQ_CHAOS_SEED=%d", n)
	return n
}

func withQuery(url, more string) string {
	if strings.Contains(url, "?") {
		return url + "&" + more
	}
	return url + "?" + more
}
