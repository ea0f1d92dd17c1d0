package main

import "syscall"

// dieWithParent has the command told to end when oncemq is killed, so that it does
// not run beside the one that gets its message again. The signal comes when the
// thread that started it ends, which Go's runtime keeps until the process does.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }
