//go:build unix && !linux

package testenv

import (
	"os/exec"
	"time"
)

// dieWithParent does nothing: only Linux can do it.
func dieWithParent(*exec.Cmd) {}

// awaitStopped waits a moment: only Linux can tell.
func awaitStopped(int) { <-time.After(10 * time.Millisecond) }
