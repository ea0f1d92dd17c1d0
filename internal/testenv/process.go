package testenv

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// DefaultTimeout is how long the helpers of this package wait before they fail
// the test.
const DefaultTimeout = 20 * time.Second

// Process is a program that a test has started. Its methods are safe for
// concurrent use, but those that fail the test belong on its goroutine.
type Process struct {
	// Stdout and Stderr hold what the process has written.
	Stdout, Stderr *Output

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts a program; its Stdout and Stderr must not be set. When the test
// ends the program is killed if it still runs, and if the test failed its
// output is logged.
func Start(tb testing.TB, cmd *exec.Cmd) *Process {
	tb.Helper()
	p := &Process{Stdout: newOutput(), Stderr: newOutput(), t: tb, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	// A grandchild that keeps the streams open must not keep the test.
	cmd.WaitDelay = time.Second
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		tb.Fatalf("testenv: start %s: %v", cmd.Path, err)
	}
	go func() {
		defer close(p.done)
		// How it ended is read from ProcessState.
		_ = cmd.Wait()
		p.Stdout.end()
		p.Stderr.end()
	}()
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("testenv: %s\nstdout:\n%s\nstderr:\n%s", cmd, tail(p.Stdout), tail(p.Stderr))
		}
	})
	return p
}

// tail is the end of an output, for logs.
func tail(o *Output) string { return end(o.String()) }

func end(s string) string {
	const limit = 4 << 10
	if len(s) > limit {
		s = "…" + s[len(s)-limit:]
	}
	return s
}

// PID is the process identifier.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal. A process that has ended is left alone.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("testenv: send %v to %s: %v", s, p.cmd.Path, err)
	}
}

// Kill sends SIGKILL and returns when the process is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Terminate sends SIGTERM and does not wait.
func (p *Process) Terminate() { p.t.Helper(); p.Signal(syscall.SIGTERM) }

// Interrupt sends SIGINT and does not wait.
func (p *Process) Interrupt() { p.t.Helper(); p.Signal(syscall.SIGINT) }

// Pause stops the process where it is (SIGSTOP) until Continue, and returns
// when it has stopped. Connections stay open, timers of others run on.
func (p *Process) Pause() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	if p.Running() {
		awaitStopped(p.PID())
	}
}

// Continue ends Pause (SIGCONT).
func (p *Process) Continue() { p.t.Helper(); p.Signal(syscall.SIGCONT) }

// Wait waits until the process has ended and returns its exit code, -1 if a
// signal ended it. It fails the test if that takes longer than within.
func (p *Process) Wait(within time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-timer.C:
		p.t.Fatalf("testenv: %s has not ended within %v", p.cmd, within)
		return 0
	}
}
