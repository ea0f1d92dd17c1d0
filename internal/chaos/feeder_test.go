package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncemq/oncemq/internal/history"
)

const (
	keysEach   = 60   // keys of a producer
	batchEach  = 40   // messages of an order; at most keysEach, so that no key comes twice
	mostBehind = 3000 // messages without effect: more are not stored
)

// feeder tells a producer what to store, and records what it answers. What
// happens to a producer that dies in between is not known, and recorded so.
type feeder struct {
	t       *testing.T
	member  *member
	record  func(history.Op)
	random  *rand.Rand
	receipt bool
	settled func() int
	pace    time.Duration // between two orders
	modes   []string      // to choose from
	most    int64         // messages to store at most; 0 for no limit

	next     [keysEach]int
	cursor   int
	number   int
	accepted *atomic.Int64 // messages of all feeders that were stored for certain
	failed   string        // what a producer said last that was not ok
}

// order is a line for the producer; see its package.
type order struct {
	Number  int
	Mode    string
	Values  []history.Value
	Receipt bool
}

// run goes on until ctx ends; the order under way is finished.
func (f *feeder) run(ctx context.Context) {
	pace := time.NewTicker(f.pace)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		if f.most > 0 && f.accepted.Load() >= f.most {
			continue
		}
		if int(f.accepted.Load())-f.settled() > mostBehind {
			continue
		}
		values := make([]history.Value, batchEach)
		for i := range values {
			key := f.cursor % keysEach
			f.cursor++
			values[i] = history.Value{Producer: f.member.set.Producer, Key: key, Seq: f.next[key]}
			f.next[key]++
		}
		f.store(ctx, values)
	}
}

// store has messages stored, or gives them up: then what is next of their keys
// comes without them.
func (f *feeder) store(ctx context.Context, values []history.Value) {
	mode := f.modes[f.random.IntN(len(f.modes))]
	stubborn := f.random.IntN(4) > 0
	for {
		outcome := f.ask(mode, values)
		f.record(history.Op{Type: outcome, Kind: history.Enqueue, Values: values})
		if outcome == history.OK {
			f.accepted.Add(int64(len(values)))
			return
		}
		if mode == "rollback" || !stubborn || ctx.Err() != nil {
			return
		}
		mode = "plain"
		timer := time.NewTimer(50 * time.Millisecond)
		<-timer.C
	}
}

// answerLimit is longer than a producer takes for any order.
const answerLimit = 30 * time.Second

// ask gives one order and waits for its outcome.
func (f *feeder) ask(mode string, values []history.Value) history.Type {
	f.record(history.Op{Type: history.Invoke, Kind: history.Enqueue, Values: values, Text: mode})
	f.number++
	text, err := json.Marshal(order{Number: f.number, Mode: mode, Values: values, Receipt: f.receipt})
	if err != nil {
		f.t.Error(err)
		return history.Info
	}
	i := f.member.now()
	if _, err := i.stdin.Write(append(text, '\n')); err != nil {
		return history.Info // it may have read some of it
	}
	timer := time.NewTimer(answerLimit)
	defer timer.Stop()
	for {
		select {
		case line := <-i.answers:
			if outcome, ok := f.outcome(line); ok {
				return outcome
			}
		case <-i.gone:
			select {
			case line := <-i.answers: // its last words
				if outcome, ok := f.outcome(line); ok {
					return outcome
				}
			default:
			}
			return history.Info
		case <-timer.C:
			f.t.Errorf("%s does not answer", f.member.set.ID)
			return history.Info
		}
	}
}

// outcome reads an answer; ok is false for one to an earlier order.
func (f *feeder) outcome(line string) (outcome history.Type, ok bool) {
	var number int
	var word string
	if _, err := fmt.Sscan(line, &number, &word); err != nil {
		f.t.Errorf("%s says %q", f.member.set.ID, line)
		return history.Info, true
	}
	if number != f.number {
		return "", false
	}
	if word != string(history.OK) && !strings.Contains(line, "rolled back") {
		f.failed = line
	}
	return history.Type(word), true
}
