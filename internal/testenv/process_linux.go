package testenv

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the program when the test process dies
// without cleaning up, as it does when a test runs into its time limit.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
