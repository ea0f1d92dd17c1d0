package testenv

import (
	"errors"
	"syscall"
	"time"
)

// A server that forks is more than its first process. Children are found by
// their parent, for some of them (PostgreSQL's) leave the process group; so the
// parent is stopped first, and has no more of them while it is looked at.

// pauseFamily is Pause for a process and its children.
func (p *Process) pauseFamily() []int {
	p.t.Helper()
	p.Pause()
	if !p.Running() {
		return nil
	}
	children := childrenOf(p.PID())
	for _, pid := range children {
		p.signalChild(pid, syscall.SIGSTOP)
	}
	p.await("stopped", func() bool {
		for _, pid := range children {
			if !stopped(pid) {
				return false
			}
		}
		return true
	})
	return children
}

// continueFamily is Continue for a process and its children, who go first.
func (p *Process) continueFamily() {
	p.t.Helper()
	if !p.Running() {
		return
	}
	for _, pid := range childrenOf(p.PID()) {
		p.signalChild(pid, syscall.SIGCONT)
	}
	p.Continue()
}

// killFamily is Kill for a process and its children.
func (p *Process) killFamily() {
	p.t.Helper()
	children := p.pauseFamily()
	p.Signal(syscall.SIGKILL)
	for _, pid := range children {
		p.signalChild(pid, syscall.SIGKILL)
	}
	p.Kill()
	p.await("gone", func() bool {
		for _, pid := range children {
			if !gone(pid) {
				return false
			}
		}
		return true
	})
}

func (p *Process) signalChild(pid int, s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.t.Errorf("testenv: send %v to a child of %s: %v", s, p.cmd.Path, err)
	}
}

func (p *Process) await(state string, reached func() bool) {
	p.t.Helper()
	timeout := time.NewTimer(DefaultTimeout)
	defer timeout.Stop()
	retry := time.NewTicker(time.Millisecond)
	defer retry.Stop()
	for !reached() {
		select {
		case <-retry.C:
		case <-timeout.C:
			p.t.Fatalf("testenv: the children of %s are not %s", p.cmd.Path, state)
		}
	}
}
