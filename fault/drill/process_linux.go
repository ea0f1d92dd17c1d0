package drill

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps an interrupt of the terminal from the program, which is ours to
// end, and has the kernel kill it should this process be killed.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
