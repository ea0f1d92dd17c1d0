package testenv

import (
	"testing"
	"time"
)

// eventually looks until nothing is amiss, and fails the test with what is if
// that takes longer than DefaultTimeout.
func eventually(tb testing.TB, amiss func() string) {
	tb.Helper()
	timeout := time.NewTimer(DefaultTimeout)
	defer timeout.Stop()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		problem := amiss()
		if problem == "" {
			return
		}
		select {
		case <-retry.C:
		case <-timeout.C:
			tb.Fatalf("testenv: %s", problem)
		}
	}
}
