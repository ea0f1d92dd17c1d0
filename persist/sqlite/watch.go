package sqlite

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// How the writer looks for the commit of a transaction of the caller: soon, then
// less and less often, and not for ever, since it may have been rolled back.
const (
	watchFirst = time.Millisecond
	watchMost  = 100 * time.Millisecond
	watchFor   = 10 * time.Second
)

// watch looks for messages of WithTx to be committed, so that those who wait
// for messages are woken. SQLite tells nobody when that happens; but until then
// the transaction holds the write lock, and is the only one.
type watch struct {
	ref   persist.Ref   // of the last message; its zero value is no watch
	pause time.Duration // until the next look
	spent time.Duration
}

// expect begins a watch for a message that a transaction of the caller has
// added. If there was one before, that transaction has ended.
func (w *writer) expect(ref persist.Ref) {
	w.mu.Lock()
	before := w.expected != (persist.Ref{})
	w.expected = ref
	w.mu.Unlock()
	if before {
		w.s.notifier.wake()
	}
	w.poke()
}

// adopt takes a new watch over to the goroutine. What was watched before has
// ended then, whether it was seen or not.
func (w *writer) adopt(expected persist.Ref) {
	if expected != (persist.Ref{}) {
		w.seen()
		w.watch = watch{ref: expected, pause: watchFirst}
	}
}

// sleep waits for the next task, and looks for what is watched meanwhile.
func (w *writer) sleep() {
	if w.watch == (watch{}) {
		<-w.wake
		return
	}
	timer := time.NewTimer(w.watch.pause)
	defer timer.Stop()
	select {
	case <-w.wake:
	case <-timer.C:
		w.look()
	}
}

// look sees whether the message can be seen.
func (w *writer) look() {
	next := int64(0)
	err := w.held.use(func(c *conn) error {
		var dest [2]driver.Value
		_, err := queryRow(context.Background(), c, dest[:], w.s.q.laneHolder, int64(w.watch.ref.Lane))
		next = asInt(dest[1])
		return err
	})
	w.watch.spent += w.watch.pause
	w.watch.pause = min(2*w.watch.pause, watchMost)
	switch {
	case next > w.watch.ref.Position:
		w.seen()
	case err != nil, w.watch.spent > watchFor:
		// A wake-up may be missed; whoever waits polls as well.
		w.watch = watch{}
	}
}

// seen ends the watch: the transaction has ended.
func (w *writer) seen() {
	if w.watch != (watch{}) {
		w.watch = watch{}
		w.s.notifier.wake()
	}
}
