//go:build unix && !linux

package drill

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps an interrupt of the terminal from the program, which is ours to
// end.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
