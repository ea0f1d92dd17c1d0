package persisttest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// recorder is a test whose failure is what is wanted.
type recorder struct {
	outer *testing.T
	ctx   context.Context

	mu       sync.Mutex // guards everything below
	failures []string
	cleanups []func()
}

var (
	_ T        = (*recorder)(nil)
	_ rapid.TB = (*recorder)(nil)
)

// observe runs a test to its end and returns how it failed, if it did. A panic
// counts: a broken store may well make a case index past an answer's end.
func observe(t *testing.T, run func(r *recorder)) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{outer: t, ctx: ctx}
	done := make(chan struct{})
	go func() { // FailNow ends the goroutine
		defer close(done)
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v", p)
			}
			for i := len(r.cleanups) - 1; i >= 0; i-- {
				r.cleanups[i]()
			}
		}()
		run(r)
	}()
	<-done
	return r.failures
}

func (r *recorder) Helper()                  {}
func (r *recorder) Name() string             { return r.outer.Name() }
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) TempDir() string          { return r.outer.TempDir() }
func (r *recorder) Log(...any)               {}
func (r *recorder) Logf(string, ...any)      {}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) FailNow()                          { r.Fail(); runtime.Goexit() }
func (r *recorder) Fail()                             { r.Errorf("failed") }
func (r *recorder) Error(args ...any)                 { r.Errorf("%s", fmt.Sprint(args...)) }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }
func (r *recorder) SkipNow()                          { runtime.Goexit() }
func (r *recorder) Skip(...any)                       { runtime.Goexit() }
func (r *recorder) Skipf(string, ...any)              { runtime.Goexit() }
