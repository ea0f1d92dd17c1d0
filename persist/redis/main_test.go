package redis

import (
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Servers that are killed on purpose are no news.
	logging.Disable()
	goleak.VerifyTestMain(m)
}
