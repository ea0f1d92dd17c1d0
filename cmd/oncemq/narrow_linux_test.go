package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// pseudoTerminal is a terminal of so many columns, and what comes out of it.
func pseudoTerminal(t *testing.T, columns uint16) (tty *os.File, printed func() string) {
	t.Helper()
	ioctl := func(f *os.File, request uintptr, arg unsafe.Pointer) {
		_, _, code := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		require.Zero(t, code, code.Error())
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	var locked, number int32
	ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	ioctl(master, syscall.TIOCGPTN, unsafe.Pointer(&number))
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	ioctl(tty, syscall.TIOCSWINSZ, unsafe.Pointer(&[4]uint16{24, columns}))
	var text bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&text, master) // ends with EIO when the other side is closed
		_ = master.Close()
	}()
	return tty, func() string {
		_ = tty.Close()
		<-done
		return strings.ReplaceAll(text.String(), "\r\n", "\n")
	}
}

// TestPayloadOnTerminal: what a terminal would act on in a payload is replaced there, and
// nowhere else.
func TestPayloadOnTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm") // the process's, so that nothing else runs meanwhile
	store := fileStore(t)
	got := runOnce(t, command("pub", "-L", nobody, "--no-wait", "--store", store, "-t", "a", "-m", "one\x1b]0;title\a\n\ttwo\u009b\r", "--message-id", "m"))
	require.Equal(t, exitDone, got.code, got.stderr)
	tty, printed := pseudoTerminal(t, 80)
	words := []string{"oncemq", "outbox", "show", "m", "--store", store}
	code := run(within(t, 60e9), words, nil, strings.NewReader(""), tty, io.Discard)
	text := printed()
	require.Equal(t, exitDone, code)
	require.Contains(t, text, "\n\none\ufffd]0;title\ufffd\n")
	require.Regexp(t, `\n\s+two\x{fffd}\x{fffd}\n$`, text, "the terminal makes blanks of a tab perhaps")
	require.Contains(t, runOnce(t, command(words[1:]...)).stdout, "\n\none\x1b]0;title\a\n\ttwo\u009b\r\n")
}

// TestNarrowTerminal: what commands print to a terminal of 40 columns is no wider, but
// for a payload, which is shown as it is.
func TestNarrowTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm") // the process's, so that nothing else runs meanwhile
	t.Setenv("NO_COLOR", "1")
	const columns = 40
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{On: brokertest.PUBLISH, Topic: "a/topic/that/is/refused/and/long/all/the/same", Code: 0x87}}})
	store := fileStore(t)
	long := "a-group-whose-name-is-longer-than-the-terminal-is-wide"
	for _, args := range [][]string{
		{"-t", "a/topic/that/is/refused/and/long/all/the/same", "-m", "x", "--timeout", "20"},
		{"-t", "a/topic/with/many/levels/that/is/long", "-m", "x", "--no-wait", "--message-id", "an-identifier-that-is-longer-than-a-line", "-H", "property=" + strings.Repeat("x", 50)},
	} {
		got := runOnce(t, command(append([]string{"pub", "-L", b.URL(), "--store", store}, args...)...))
		require.Contains(t, []int{exitDone, exitStored, exitRefused}, got.code, got.stderr)
	}
	got := runOnce(t, command("sub", "-L", b.URL(), "--store", store, "--group", long, "-t", "b", "-E"))
	require.Equal(t, exitDone, got.code, got.stderr)
	result := runOnce(t, command("bench", "store", "--count", "50", "--json"))
	require.Equal(t, exitDone, result.code, result.stderr)
	before := strings.TrimPrefix(fileStore(t), "sqlite://")
	require.NoError(t, os.WriteFile(before, []byte(result.stdout), 0o600))
	for _, args := range []string{
		"version", "chaos list",
		"outbox stats --store STORE", "outbox list --store STORE", "outbox list --state failed --store STORE",
		"outbox show an-identifier-that-is-longer-than-a-line --store STORE",
		"dead list --store STORE", "dead show 1 --store STORE", "dedup stats --store STORE",
		"store status --store STORE", "store check --store STORE",
		"status --store STORE", "status --store STORE --broker BROKER", "status --store STORE --broker " + nobody,
		"doctor --quick -L BROKER --store STORE", "doctor --quick -L " + nobody + " --no-store",
		"bench store --count 50 --compare " + before,
		"qos --messages 10 --quiet-time 0.2 --link plain",
	} {
		words := strings.Fields(strings.NewReplacer("STORE", store, "BROKER", b.URL()).Replace(args))
		tty, printed := pseudoTerminal(t, columns)
		var stderr bytes.Buffer
		env := []string{"XDG_STATE_HOME=" + t.TempDir()}
		code := run(within(t, 60e9), append([]string{"oncemq"}, words...), env, strings.NewReader(""), tty, &stderr)
		text := printed()
		require.NotEqual(t, exitUsage, code, stderr.String())
		require.NotEmpty(t, text, args)
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			require.LessOrEqual(t, utf8.RuneCountInString(line), columns, "%s:\n%s", args, text)
		}
	}
}
