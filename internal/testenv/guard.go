package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sharedServer is a server that ends with the test process, however that ends:
// a shell waits for the end of a pipe whose other end the process holds, then
// ends the server and removes its folder.
type sharedServer struct {
	dir  string
	hold *os.File // open until the process ends
}

// guard runs a server ("$@") in a folder ($1) and ends it with a signal ($2)
// at the end of its input. A signal can come before the server minds it: then
// it is killed.
const guard = `
dir=$1 signal=$2
shift 2
"$@" >"$dir/log" 2>&1 </dev/null &
server=$!
echo "$server" >"$dir/pid"
read -r _
{ sleep 5; kill -KILL "$server"; } 2>/dev/null &
late=$!
kill -"$signal" "$server" 2>/dev/null
wait "$server"
kill "$late"
cd /
rm -rf "$dir"
`

// startShared runs a server under guard until ready says that it is. The
// command's folder, environment and credential are the server's. After an error
// the guard removes the folder.
func startShared(ctx context.Context, cmd *exec.Cmd, dir, signal string, ready func() bool) (*sharedServer, error) {
	read, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	sh := exec.Command("sh", append([]string{"-c", guard, "sh", dir, signal}, cmd.Args...)...) //nolint:gosec,noctx // it outlives every test.
	sh.Dir, sh.Env, sh.SysProcAttr = cmd.Dir, cmd.Env, cmd.SysProcAttr
	if sh.SysProcAttr == nil {
		sh.SysProcAttr = &syscall.SysProcAttr{}
	}
	// An interrupt from the terminal is for the test process.
	sh.SysProcAttr.Setsid = true
	sh.Stdin = read
	err = sh.Start()
	_ = read.Close()
	if err != nil {
		return nil, errors.Join(err, hold.Close())
	}
	s := &sharedServer{dir: dir, hold: hold}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for !ready() {
		// The guard, who does not look before the end, keeps the identifier from
		// being used again.
		if pid := s.pid(); pid != 0 && gone(pid) {
			return nil, errors.Join(fmt.Errorf("it ended\n%s", s.log()), hold.Close())
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("it accepts no client: %w\n%s", ctx.Err(), s.log()), hold.Close())
		}
	}
	return s, nil
}

// pid is the server's process identifier, 0 if it has not been started yet.
func (s *sharedServer) pid() int {
	text, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

func (s *sharedServer) log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// showLog shows the end of the log if the test failed.
func (s *sharedServer) showLog(tb testing.TB) {
	tb.Helper()
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("testenv: shared server\n%s", end(s.log()))
		}
	})
}

// sweep waits for the end of its input. If a folder ($1) is still there then,
// the test process has died: PostgreSQL's processes, who are in its data folder
// and may be stopped, are killed, the first of whom starts no others when they
// are looked for again; their shared memory and the folder are removed.
const sweep = `
dir=$1
read -r _
cd /
for pass in 1 2; do
	[ -d "$dir" ] || exit 0
	for process in /proc/[0-9]*; do
		if [ "$(readlink "$process/cwd")" = "$dir/data" ]; then
			kill -KILL "${process#/proc/}"
		fi
	done
done 2>/dev/null
set -- $(sed -n 7p "$dir/data/postmaster.pid")
[ $# -ne 2 ] || ipcrm -m "$2"
rm -rf "$dir"
`

// sweeper is the process that runs sweep.
type sweeper struct {
	sh   *exec.Cmd
	hold *os.File // open until dismiss, or the process's end
}

// startSweeper has a folder swept when the test process dies. Pdeathsig would
// do for one process, but not for its children or the folder.
func startSweeper(dir string, owner *syscall.Credential) (*sweeper, error) {
	read, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	sh := exec.Command("sh", "-c", sweep, "sh", dir) //nolint:gosec,noctx // dismiss ends it.
	sh.Dir = dir
	sh.Stdin = read
	sh.SysProcAttr = &syscall.SysProcAttr{Credential: owner, Setsid: true}
	err = sh.Start()
	_ = read.Close()
	if err != nil {
		return nil, errors.Join(err, hold.Close())
	}
	return &sweeper{sh: sh, hold: hold}, nil
}

// dismiss ends the sweeper; the folder has to be gone.
func (s *sweeper) dismiss() {
	_ = s.hold.Close()
	_ = s.sh.Wait()
}
