package sqlite

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childVariable makes the test program play a part of its own instead of
// running tests; see child_test.go.
const childVariable = "ONCEMQ_SQLITE_TEST_CHILD"

func TestMain(m *testing.M) {
	if part := os.Getenv(childVariable); part != "" {
		os.Exit(playChild(part, os.Args[1:])) //nolint:forbidigo // there is no m.Run to end it
	}
	goleak.VerifyTestMain(m)
}
