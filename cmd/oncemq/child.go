package main

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	// killAfter is how long a process group has between SIGTERM and SIGKILL.
	killAfter = 2 * time.Second
	// outputAfter is how long output is read after a command has ended, of what it
	// left running.
	outputAfter = time.Second
	// tailLength is how much of the end of standard error a failure tells, in bytes.
	tailLength = 400
	// longestLine is what is kept together of a line, in bytes.
	longestLine = 64 << 10
)

// child is a command that runs in a process group of its own.
type child struct {
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended and its output is passed on
	stderr tail
}

// startChild starts a command. What it prints is passed on line by line.
func startChild(cmd *exec.Cmd, stdin []byte, out *output, log *reporter) (*child, error) {
	c := &child{cmd: cmd, done: make(chan struct{})}
	stdout := &lines{write: out.put}
	stderr := &lines{write: func(b []byte) error {
		_, err := log.Write(b)
		return err
	}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, &tee{stderr, &c.stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	cmd.WaitDelay = outputAfter
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.done)
		// How it ended is read from ProcessState; that its children keep the streams
		// open is theirs to know, and that nobody reads stdout is out's.
		_ = cmd.Wait()
		_ = stdout.end()
		_ = stderr.end()
		_ = out.write(nil) // what it printed is out before its message is acknowledged
	}()
	return c, nil
}

// end ends the command and all of its process group, and returns when it is gone.
func (c *child) end() {
	c.signal(syscall.SIGTERM)
	t := time.NewTimer(killAfter)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	}
	c.signal(syscall.SIGKILL) // also those that the command has left behind
	<-c.done
}

func (c *child) signal(s syscall.Signal) {
	_ = syscall.Kill(-c.cmd.Process.Pid, s) // ESRCH: all of the group is gone
}

// failed is the error of a command that has ended: how, and what it said last.
func (c *child) failed(how string) error {
	if said := c.stderr.String(); said != "" {
		return errors.New(how + ": " + said)
	}
	return errors.New(how)
}

// lines passes on whole lines, so that commands that run at once do not write
// into each other's.
type lines struct {
	write func([]byte) error
	buf   []byte
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.buf = append(l.buf, p...)
	n := bytes.LastIndexByte(l.buf, '\n') + 1
	if n == 0 && len(l.buf) >= longestLine {
		n = len(l.buf)
	}
	if n == 0 {
		return len(p), nil
	}
	err := l.write(l.buf[:n])
	l.buf = l.buf[:copy(l.buf, l.buf[n:])]
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// end passes on a last line that has no end.
func (l *lines) end() error {
	if len(l.buf) == 0 {
		return nil
	}
	return l.write(append(l.buf, '\n'))
}

// tail keeps the end of what is written.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if more := len(t.buf) - tailLength; more > 0 {
		t.buf = t.buf[:copy(t.buf, t.buf[more:])]
		t.cut = true
	}
	return len(p), nil
}

// String is the end as one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	if t.cut { // the first line, or character, is not whole
		if n := bytes.IndexByte(b, '\n'); n >= 0 && n < len(b)-1 {
			b = b[n+1:]
		}
		for len(b) > 0 && !utf8.RuneStart(b[0]) {
			b = b[1:]
		}
	}
	text := strings.ToValidUTF8(string(b), "\ufffd")
	var said []string
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(visible(strings.ReplaceAll(line, "\t", " "))); line != "" {
			said = append(said, line)
		}
	}
	return strings.Join(said, "; ")
}

// tee writes to two writers. The second one's errors do not count.
type tee struct {
	first, second interface{ Write(p []byte) (int, error) }
}

// Write implements io.Writer.
func (t *tee) Write(p []byte) (int, error) {
	_, _ = t.second.Write(p)
	return t.first.Write(p)
}
