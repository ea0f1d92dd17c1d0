package testenv

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var children []int
	for _, stat := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err != nil {
			continue
		}
		if _, parent := stateOf(child); parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// stopped tells whether a process is stopped, or gone.
func stopped(pid int) bool {
	state, _ := stateOf(pid)
	return state == 'T' || state == 't' || gone(pid)
}

// gone tells whether a process has ended; its parent may not have noticed yet.
func gone(pid int) bool {
	state, _ := stateOf(pid)
	return state == 0 || state == 'Z' || state == 'X'
}

// stateOf is the letter of a process's state and its parent, zero if there is
// no such process.
func stateOf(pid int) (state byte, parent int) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0
	}
	// The name, in parentheses, may hold anything.
	_, rest, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
	fields := bytes.Fields(rest)
	if len(fields) < 2 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return fields[0][0], parent
}
