//go:build unix && !linux

package testenv

import (
	"fmt"
	"os/exec"
	"strings"
)

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) []int {
	var children []int
	for child, p := range processes() {
		if p.parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// stopped tells whether a process is stopped, or gone.
func stopped(pid int) bool { return processes()[pid].state == 'T' || gone(pid) }

// gone tells whether a process has ended; its parent may not have noticed yet.
func gone(pid int) bool {
	p, ok := processes()[pid]
	return !ok || p.state == 'Z'
}

type processState struct {
	parent int
	state  byte
}

func processes() map[int]processState {
	//nolint:noctx // it does not wait for anything.
	text, _ := exec.Command("ps", "-A", "-o", "pid=,ppid=,state=").Output()
	all := make(map[int]processState)
	for line := range strings.Lines(string(text)) {
		var pid, parent int
		var state string
		if _, err := fmt.Sscan(line, &pid, &parent, &state); err == nil {
			all[pid] = processState{parent: parent, state: state[0]}
		}
	}
	return all
}
