package testenv

import (
	"os/exec"
	"syscall"
	"unsafe"
)

// dieWithParent has the kernel kill the program when the test process dies
// without cleaning up, as it does when a test runs into its time limit.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// awaitStopped returns when all threads of a child that got SIGSTOP have
// stopped, or the child is gone.
func awaitStopped(pid int) {
	const (
		byPID   = 1          // P_PID
		stopped = 0x2        // WSTOPPED
		noWait  = 0x01000000 // WNOWAIT: os/exec reaps
	)
	var info [128]byte // siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), stopped|noWait, 0, 0) //nolint:gosec // the kernel writes its 128 bytes.
		if errno != syscall.EINTR {
			return
		}
	}
}
