package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/internal/testenv"
)

// The commands of the documentation and of the helps are run as they are written, by a
// shell, in a namespace of Linux in which the world is as they suppose it: broker,
// broker.example, db and db.example are names of it, with a mosquitto at 1883 and
// 8883 (the authority of whose certificate is the system's) and a PostgreSQL with the
// roles app and owner; other.example is another mosquitto; what is written to /etc,
// /var and /usr/local/share is gone afterwards. docstrials_linux_test.go says what each command
// finds there, and which are not run, and why.

// envHouse names the folder with the servers' sockets, within the namespace.
const envHouse = "ONCEMQ_DOCS_HOUSE"

// envDocs has what takes longer run as well, if it is "all". It is "make docs".
const envDocs = "ONCEMQ_DOCS"

// TestDocsRun runs them. With -v it lists what was run and what was left out.
func TestDocsRun(t *testing.T) {
	if dir := os.Getenv(envHouse); dir != "" {
		runTrials(t, newHouse(t, dir))
		return
	}
	t.Parallel()
	unshare := testenv.Program(t, "unshare", "util-linux")
	testenv.Program(t, "ip", "iproute2")
	if text, err := exec.CommandContext(t.Context(), unshare, "-rnm", "sh", "-ec", intoHouse, "sh", t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("this system does not let us make a network and mount in a namespace: %s", text)
	}
	dir := t.TempDir()
	refuses := []string{"topic readwrite #", "topic deny orders/refused", "topic read $SYS/#"}
	serve(t, dir, "broker", testenv.Mosquitto(t, testenv.MosquittoOptions{ACL: refuses}).Addr())
	serve(t, dir, "other", testenv.Mosquitto(t, testenv.MosquittoOptions{}).Addr())
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	for _, sql := range []string{
		"CREATE ROLE app SUPERUSER LOGIN PASSWORD 'secret'", "CREATE ROLE owner SUPERUSER LOGIN PASSWORD 'secret'",
		"CREATE DATABASE app", "CREATE DATABASE bench",
	} {
		pg.Exec(sql)
	}
	serve(t, dir, "db", pg.Addr())
	require.NoError(t, os.Symlink(testenv.Build(t, "./cmd/oncemq"), filepath.Join(dir, "oncemq")))
	self, err := os.Executable()
	require.NoError(t, err)
	args := []string{"-rnm", "sh", "-ec", intoHouse + `; shift; exec "$@"`, "sh", filepath.Join(dir, "changes"), self, "-test.run=^TestDocsRun$", "-test.v"}
	cmd := exec.Command(unshare, args...) // testenv.Start ends it
	cmd.Env = append(os.Environ(), envHouse+"="+dir)
	inside := testenv.Start(t, cmd)
	code := inside.Wait(trialTime(os.Getenv(envDocs) == "all") * 2)
	t.Log(inside.Stdout.String())
	require.Zero(t, code)
}

// intoHouse sets up the namespace that the shell is in. $1 is a folder of the host's.
const intoHouse = `
mkdir -p "$1"
mount -t tmpfs tmpfs "$1"
cp -a /etc "$1" 2>/dev/null || : # what we may not read nobody asks for
mkdir -p "$1/etc/bash_completion.d"
rm -f "$1/etc/hosts"
printf '127.0.0.1 localhost broker broker.example db db.example\n127.0.0.2 other.example\n' >"$1/etc/hosts"
mount --bind "$1/etc" /etc
mount -t tmpfs tmpfs /var
mkdir -p /var/lib/app /var/log
mount -t tmpfs tmpfs /usr/local/share
ip link set lo up`

// house is the world within the namespace.
type house struct {
	dir string
	env []string
}

func newHouse(t *testing.T, dir string) *house {
	t.Helper()
	a := newAuthority(t)
	listen := func(addr string) net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		require.NoError(t, err)
		return l
	}
	secured := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.issue(x509.Certificate{DNSNames: []string{"broker", "broker.example"}})}}
	forward(t, listen("127.0.0.1:1883"), "unix", filepath.Join(dir, "broker.sock"))
	forward(t, tls.NewListener(listen("127.0.0.1:8883"), secured), "unix", filepath.Join(dir, "broker.sock"))
	forward(t, listen("127.0.0.2:1883"), "unix", filepath.Join(dir, "other.sock"))
	forward(t, listen("127.0.0.1:5432"), "unix", filepath.Join(dir, "db.sock"))
	return &house{dir: dir, env: []string{"PATH=" + dir + ":" + os.Getenv("PATH") + ":/usr/sbin", "PGPASSWORD=secret", "SSL_CERT_FILE=" + a.file, "TERM=dumb"}}
}

// serve has a server of the host at a socket, which can be reached from a namespace.
func serve(t *testing.T, dir, name, addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, name+".sock"))
	require.NoError(t, err)
	forward(t, l, "tcp", addr)
}

// forward passes the connections of a listener on until the test ends.
func forward(t *testing.T, l net.Listener, network, addr string) {
	t.Helper()
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { join(ctx, client, network, addr) })
		}
	})
}

// join is a connection of forward, until either side ends it.
func join(ctx context.Context, client net.Conn, network, addr string) {
	server, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		_ = client.Close()
		return
	}
	end := func() { _ = errors.Join(client.Close(), server.Close()) }
	defer context.AfterFunc(ctx, end)()
	var both sync.WaitGroup
	pass := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src) // an end like any other
		end()
	}
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
}

// runTrials runs what is fast, or all.
func runTrials(t *testing.T, h *house) {
	t.Helper()
	all := os.Getenv(envDocs) == "all"
	known := docsTrials()
	var left []string
	run := 0
	for _, line := range docsLines(t) {
		trial, ok := known[line]
		if !ok {
			t.Errorf("%s: nothing is said of it in docstrials_linux_test.go", line)
			continue
		}
		delete(known, line)
		switch {
		case trial.left != "":
			left = append(left, line+": "+trial.left)
		case trial.slow && !all:
			left = append(left, line+": make docs runs it")
		default:
			run++
			t.Run(line, func(t *testing.T) { h.try(t, line, trial) })
		}
	}
	require.Empty(t, slices.Sorted(maps.Keys(known)), "these are in no text any more")
	t.Logf("%d commands, %d run, %d left out:\n%s", run+len(left), run, len(left), strings.Join(left, "\n"))
}

// docsLines are the lines of the texts and helps that are for a shell, each once.
func docsLines(t *testing.T) (lines []string) {
	t.Helper()
	for _, file := range docsFiles(t) {
		text, err := os.ReadFile(filepath.Join(docsRoot, file))
		require.NoError(t, err)
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if block[1] != "" && block[1] != "sh" {
				continue
			}
			lines = append(lines, shellLines(block[2])...)
		}
	}
	var look func(commands []*cli.Command)
	look = func(commands []*cli.Command) {
		for _, c := range commands {
			lines = append(lines, examplesOf(c)...)
			look(c.Subcommands)
		}
	}
	look(newApp(&shell{}).Commands)
	seen := make(map[string]bool)
	return slices.DeleteFunc(lines, func(line string) bool {
		was := seen[line]
		seen[line] = true
		return was
	})
}

// shellLines are the commands of a block: all of it, or, where it shows what they print,
// what stands behind the prompt.
func shellLines(block string) (lines []string) {
	block = strings.ReplaceAll(block, "\\\n", " ")
	prompt := strings.HasPrefix(block, "$ ") || strings.Contains(block, "\n$ ")
	for line := range strings.SplitSeq(block, "\n") {
		line, typed := strings.CutPrefix(line, "$ ")
		line, _, _ = strings.Cut(line, " # ") // what it does
		if line = strings.TrimSpace(line); line != "" && typed == prompt {
			lines = append(lines, line)
		}
	}
	return lines
}

// trialTime is how long a command may take.
func trialTime(slow bool) time.Duration {
	if slow {
		return 20 * time.Minute
	}
	return time.Minute
}

// try runs a command, and looks at its exit code and at what it shows.
func (h *house) try(t *testing.T, line string, trial docsTrial) {
	t.Helper()
	dir := t.TempDir()
	shell := func(ctx context.Context, script string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "bash", "-c", script)
		cmd.WaitDelay = time.Second                           // for what it has left behind
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // that signals are for all of it
		cmd.Dir, cmd.Env = dir, append(h.env[:len(h.env):len(h.env)], "HOME="+dir)
		return cmd
	}
	all := func(cmd *exec.Cmd, s syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, s) } // it may have ended
	run := func(ctx context.Context, script string) (string, error) {
		cmd := shell(ctx, script)
		text, err := cmd.CombinedOutput()
		if cmd.Process != nil {
			all(cmd, syscall.SIGKILL)
		}
		return string(text), err
	}
	text, err := run(within(t, trialTime(false)), "set -e\n"+trial.given)
	require.NoError(t, err, text)
	cmd := shell(context.WithoutCancel(t.Context()), trial.with+"\n"+line)
	p := testenv.Start(t, cmd)
	defer all(cmd, syscall.SIGKILL)
	shows := regexp.MustCompile(trial.shows)
	shown := func() string { return p.Stdout.String() + p.Stderr.String() }
	if trial.endless {
		ctx := within(t, trialTime(false))
		for {
			text, err := run(ctx, trial.meanwhile)
			if err == nil && shows.MatchString(shown()) {
				break
			}
			require.NoErrorf(t, ctx.Err(), "%s\n%s", text, shown())
			require.Truef(t, p.Running(), "it has ended\n%s", shown())
		}
		all(cmd, syscall.SIGINT)
	}
	for !trial.endless && trial.meanwhile != "" && p.Running() {
		_, _ = run(within(t, trialTime(false)), trial.meanwhile) // what it is for is looked at below
	}
	code := p.Wait(trialTime(trial.slow))
	if byCtrlC := code == -1 || code == 128+int(syscall.SIGINT); !byCtrlC || !trial.interrupted {
		require.Equal(t, trial.code, code, shown())
	}
	require.Regexp(t, shows, shown())
}
