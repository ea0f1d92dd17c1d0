package persisttest

import (
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain keeps rapid from minimising the histories that catch a mutant, and
// from writing them down: here they are meant to be found. Most mutants need few
// of them; a number that was asked for is kept.
func TestMain(m *testing.M) {
	// The local time zone is read when it is first asked for, and a failing comparison
	// prints it, which the race detector sees.
	_ = time.Now().String()
	flag.Parse()
	given := make(map[string]bool)
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.shrinktime": "0s", "rapid.nofailfile": "true", "rapid.checks": "40"} {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}
