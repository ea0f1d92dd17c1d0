package persisttest

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// TestMain keeps rapid from minimising the histories that catch a mutant, and
// from writing them down: here they are meant to be found.
func TestMain(m *testing.M) {
	flag.Parse()
	for name, value := range map[string]string{"rapid.shrinktime": "0s", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}
