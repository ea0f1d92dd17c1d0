package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// syncEvery is how often a log is synchronised with the disk.
const syncEvery = 50 * time.Millisecond

// Log is a record in a file. Its methods are safe for concurrent use. What was
// added is on disk a moment later, and when Close has returned.
type Log struct {
	mu    sync.Mutex // guards the following
	f     *os.File
	w     *bufio.Writer
	dirty bool
	err   error

	stop chan struct{}
	done chan struct{}
}

// Create makes a log; the file must not exist.
func Create(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	l := &Log{f: f, w: bufio.NewWriterSize(f, 1<<16), stop: make(chan struct{}), done: make(chan struct{})}
	go l.keep()
	return l, nil
}

// Add appends an operation, at this moment if it has no time. An error is
// Close's to return.
func (l *Log) Add(op Op) {
	if op.At.IsZero() {
		op.At = time.Now()
	}
	line, err := json.Marshal(op)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.w.Write(append(line, '\n'))
	}
	l.err = errors.Join(l.err, err)
	l.dirty = true
}

// keep synchronises until Close.
func (l *Log) keep() {
	defer close(l.done)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.sync()
		case <-l.stop:
			l.sync()
			return
		}
	}
}

func (l *Log) sync() {
	l.mu.Lock()
	due := l.dirty
	l.dirty = false
	if due {
		l.err = errors.Join(l.err, l.w.Flush())
	}
	l.mu.Unlock()
	if !due {
		return
	}
	if err := l.f.Sync(); err != nil {
		l.mu.Lock()
		l.err = errors.Join(l.err, err)
		l.mu.Unlock()
	}
}

// Close ends the log; the error is the first that writing had.
func (l *Log) Close() error {
	close(l.stop)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.f.Close())
}

// Read calls each with the operations of a record, in order. A last line that is
// not whole, as of an observer that died, is left out.
func Read(r io.Reader, each func(Op)) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
		var op Op
		if err := json.Unmarshal(line, &op); err != nil {
			return fmt.Errorf("history: line %d: %w", n, err)
		}
		each(op)
	}
}
