package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// pendingLimit is how much may wait to be written before put blocks, in bytes.
const pendingLimit = 1 << 20

// objectsLimit is how much may wait to be written before room waits, in bytes: the
// events of some 80,000 messages.
const objectsLimit = 16 << 20

// writeMost is how much is written at once: of a slow reader it is seen that it reads.
const writeMost = 64 << 10

// output writes to stdout from one goroutine: what several others put while it
// writes leaves together. An error stays, and every later call returns it.
type output struct {
	w    io.Writer
	done chan struct{} // closed when the goroutine has ended
	// patience is how long its reader may read nothing before room and close give up;
	// zero for any time. It is not changed once something is put.
	patience time.Duration

	mu      sync.Mutex // guards the following
	changed sync.Cond
	buf     []byte
	spare   []byte // what was buf before, to be used again
	queued  int64  // bytes that were ever put
	written int64
	began   time.Time // when the write that is under way did; zero if none is
	closed  bool
	err     error
}

func newOutput(w io.Writer) *output {
	o := &output{w: w, done: make(chan struct{})}
	o.changed.L = &o.mu
	go o.run()
	return o
}

func (o *output) run() {
	defer close(o.done)
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.buf) == 0 && !o.closed {
			o.changed.Wait()
		}
		if len(o.buf) == 0 || o.err != nil {
			return
		}
		b := o.buf
		o.buf, o.spare = o.spare[:0], nil
		for part := range slices.Chunk(b, writeMost) {
			o.began = time.Now()
			o.mu.Unlock()
			_, err := o.w.Write(part)
			o.mu.Lock()
			o.began = time.Time{}
			o.written += int64(len(part))
			if err != nil {
				o.err = err
			}
			o.changed.Broadcast()
			if o.err != nil {
				return
			}
		}
		o.spare = b
	}
}

// put queues data, in the order of the calls. It blocks while much is waiting.
func (o *output) put(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.append(b)
	return err
}

// write is put, and returns once the data are written.
func (o *output) write(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	mark, err := o.append(b)
	for err == nil && o.written < mark {
		o.changed.Wait()
		err = o.err
	}
	return err
}

// append queues data and tells how many bytes are written once they are. o.mu
// is held.
func (o *output) append(b []byte) (mark int64, err error) {
	for len(o.buf) > pendingLimit && o.err == nil {
		o.changed.Wait()
	}
	return o.queue(b)
}

// queue is append without waiting. o.mu is held.
func (o *output) queue(b []byte) (mark int64, err error) {
	if o.err != nil {
		return 0, o.err
	}
	o.buf = append(o.buf, b...)
	o.queued += int64(len(b))
	o.changed.Broadcast()
	return o.queued, nil
}

// object queues a JSON object on a line. It never blocks: who makes more of them
// waits for room first.
func (o *output) object(v any) error {
	b, err := marshalLine(v)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err = o.queue(b)
	return err
}

// room waits until little enough is waiting for more objects to be made, or until ctx
// has ended. Its error is that the reader does not read; that there is no reader any
// more is none.
func (o *output) room(ctx context.Context) error {
	if !o.full() {
		return nil
	}
	look := time.NewTicker(roomInterval)
	defer look.Stop()
	for o.full() {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if o.stalled() {
				return fmt.Errorf("standard output: %w", o.unread())
			}
		}
	}
	return nil
}

func (o *output) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err == nil && len(o.buf) > objectsLimit
}

// idle is for how long the write that is under way has been.
func (o *output) idle() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.began.IsZero() {
		return 0
	}
	return time.Since(o.began)
}

// stalled tells whether the reader has read nothing for too long.
func (o *output) stalled() bool { return o.patience > 0 && o.idle() >= o.patience }

func (o *output) unread() error { return fmt.Errorf("nobody has read it for %s", o.patience) }

// failure is the first error of a write; nil if there was none.
func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// errUnread ends an output that nobody reads.
var errUnread = errors.New("nobody reads it, and the command was told to end")

// lastPatience is what a reader has in any case once the command is to end.
const lastPatience = time.Second

// close writes what is queued, ends the goroutine and returns the first error. A
// reader may take its time, within patience; but once ctx has ended, a write has
// closePatience, of which lastPatience is left even if it began long ago.
func (o *output) close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	o.changed.Broadcast()
	failed := o.err
	o.mu.Unlock()
	if failed != nil {
		return failed
	}
	look := time.NewTicker(watchInterval)
	defer look.Stop()
	for waiting := true; waiting; {
		select {
		case <-o.done:
			waiting = false
		case <-look.C:
			if o.stalled() {
				o.fail(o.unread())
				waiting = false
			}
		case <-ctx.Done():
			timer := time.NewTimer(max(lastPatience, closePatience-o.idle()))
			defer timer.Stop()
			select {
			case <-o.done:
			case <-timer.C:
				o.fail(errUnread)
			}
			waiting = false
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// endWith has writes fail that have not ended closePatience after ctx. Its stop is
// called before the output is closed.
func (o *output) endWith(ctx context.Context) (stop func()) {
	stopped := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(closePatience)
		defer timer.Stop()
		select {
		case <-stopped:
		case <-timer.C:
			o.fail(errUnread)
		}
	})
	return func() {
		unregister()
		close(stopped)
	}
}

// fail has all calls return, but the write that is under way.
func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	o.changed.Broadcast()
}

// marshalLine makes one line of JSON, with <, > and & as they are.
func marshalLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
