//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Enabled tells whether this program was built with the tag failpoint.
const Enabled = true

// state is what the environment says, read once.
type state struct {
	plan   Plan
	hits   atomic.Int64
	mutant Rule
	err    error
}

//nolint:gochecknoglobals // the environment of the process, which is one.
var load = sync.OnceValue(func() *state {
	s := new(state)
	if text := os.Getenv(Variable); text != "" {
		s.plan, s.err = Parse(text)
	}
	if text := os.Getenv(MutantVariable); text != "" && s.err == nil {
		s.mutant, s.err = ParseMutant(text)
	}
	return s
})

// Load reads the environment; the error tells what is wrong there.
func Load() error { return load().err }

func loaded() *state {
	s := load()
	if s.err != nil {
		fmt.Fprintln(os.Stderr, s.err)
		os.Exit(2) //nolint:forbidigo // a test that names no point must not pass for one that does.
	}
	return s
}

// Hit does what the environment asks for at a point.
func Hit(p Point) {
	if err := Err(p); err != nil {
		panic(err)
	}
}

// Err is Hit for a place that can fail.
func Err(p Point) error {
	s := loaded()
	if s.plan.Point != p || s.hits.Add(1) != s.plan.Hit {
		return nil
	}
	switch s.plan.Action {
	case Exit:
		os.Exit(137) //nolint:forbidigo // that is the point.
	case Sleep:
		time.Sleep(s.plan.Sleep) //nolint:forbidigo // that is the point.
	case Panic:
		panic(fmt.Sprintf("failpoint %s", p))
	case Error:
		return fmt.Errorf("failpoint %s: %w", p, ErrInjected)
	}
	return nil
}

// Mutant tells whether a rule is to be broken.
func Mutant(r Rule) bool { return loaded().mutant == r }
