package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// maxFile is how much is read of a file that an option names, in bytes.
const maxFile = 64 << 20

// readFile reads the file that an option names. What is wrong with it is a mistake in
// the command line.
//
// It may be a FIFO, as <(command) of a shell is one, which makes wait for who writes into
// it, and for the end of that. ctx ends the wait.
func readFile(ctx context.Context, option, path string) ([]byte, error) {
	data, err := readStart(ctx, path, maxFile+1)
	var ended *exitError
	switch {
	case errors.As(err, &ended):
		return nil, &exitError{code: ended.code, text: option, err: err}
	case err != nil:
		return nil, &usageError{option: option, problem: err.Error()}
	case len(data) > maxFile:
		return nil, &usageError{option: option, problem: fmt.Sprintf("%q has more than %d bytes, the most that is read of a file", path, maxFile)}
	}
	return data, nil
}

// readStart reads a file, up to so many bytes. If ctx ends before, its error is that of
// interrupted.
func readStart(ctx context.Context, path string, most int64) ([]byte, error) {
	if isRegular(path) {
		return readOpen(ctx, path, most)
	}
	data, err := await(ctx, func() ([]byte, error) { return readOpen(ctx, path, most) }, func() func() { return writerOf(path) })
	if ctx.Err() != nil && err != nil {
		e := interrupted(ctx)
		return nil, &exitError{code: exitCode(e), text: "waiting for what is in " + strconv.Quote(path), err: e}
	}
	return data, err
}

// isRegular tells whether a file can be read to its end at once, and again.
func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

func readOpen(ctx context.Context, path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	stop := context.AfterFunc(ctx, func() {
		_ = f.SetReadDeadline(time.Unix(0, 0)) // fails for what need not be waited for
	})
	defer stop()
	return io.ReadAll(io.LimitReader(f, most))
}

// await returns what read does, or when ctx has ended, of which a read that blocks
// knows nothing. release, if there is one, has such a read return, until what it gives
// back is called; a read that cannot be released ends with the process.
func await(ctx context.Context, read func() ([]byte, error), release func() func()) ([]byte, error) {
	type content struct {
		data []byte
		err  error
	}
	done := make(chan content, 1)
	go func() {
		data, err := read()
		done <- content{data, err}
	}()
	select {
	case c := <-done:
		return c.data, c.err
	case <-ctx.Done():
	}
	if release != nil {
		if end := release(); end != nil {
			defer end()
			patience := time.NewTimer(closePatience)
			defer patience.Stop()
			select {
			case <-done:
			case <-patience.C:
			}
		}
	}
	return nil, context.Cause(ctx)
}

// writerOf opens a FIFO as one who writes, which ends the wait of an opening to read.
func writerOf(path string) (end func()) {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0) // to write alone would fail as long as nobody reads
	if err != nil {
		return nil
	}
	return func() { _ = f.Close() }
}
