package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// Output holds what a process has written to one of its streams, line by line.
// It takes whatever comes, so that the process never blocks on it.
type Output struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	read    int // lines that Next has given
	ended   bool
	changed chan struct{} // closed and replaced at each change
}

func newOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write adds to the output.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial = append(o.partial, b...)
	for {
		line, rest, ok := bytes.Cut(o.partial, []byte("\n"))
		if !ok {
			break
		}
		o.lines = append(o.lines, string(line))
		o.partial = rest
	}
	o.wake()
	return len(b), nil
}

// end says that nothing more comes; a last line without its end is a line.
func (o *Output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.lines = append(o.lines, string(o.partial))
		o.partial = nil
	}
	o.ended = true
	o.wake()
}

func (o *Output) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// Lines are the whole lines so far, without their ends.
func (o *Output) Lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lines)
}

// String is the output so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	for _, line := range o.lines {
		b.WriteString(line + "\n")
	}
	b.Write(o.partial)
	return b.String()
}

// Next returns the next line that Next or WaitFor has not given, as soon as it
// is there. The error is io.EOF once the process has ended and no line is left,
// or that of ctx. It is for one goroutine at a time.
func (o *Output) Next(ctx context.Context) (string, error) {
	for {
		o.mu.Lock()
		changed := o.changed
		if o.read < len(o.lines) {
			line := o.lines[o.read]
			o.read++
			o.mu.Unlock()
			return line, nil
		}
		ended := o.ended
		o.mu.Unlock()
		if ended {
			return "", io.EOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// WaitFor takes lines, as Next does, until match returns true, and returns that
// line.
func (o *Output) WaitFor(ctx context.Context, match func(line string) bool) (string, error) {
	for {
		line, err := o.Next(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", fmt.Errorf("testenv: no such line in the output: %w", err)
		}
		if match(line) {
			return line, nil
		}
	}
}
