package main

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/oncemq/oncemq/autopaho"
)

// trouble tells the user what keeps the client from working, once for each
// time, and when it works again. A connection that was lost and is up again at
// the next attempt is not worth a line.
type trouble struct {
	log *reporter
	// wake holds one: something happened after which the client's Err is worth
	// a look.
	wake chan struct{}

	// subscribes tells that a session that the broker loses is worth a word; a
	// relay loses nothing with it. lost: it was said.
	subscribes bool
	lost       atomic.Bool
	tooOld     atomic.Bool // that messages are too old was said

	mu    sync.Mutex // guards the following
	last  error      // of connections
	down  map[string]bool
	store string // the last other trouble
}

func newTrouble(log *reporter) *trouble {
	return &trouble{log: log, wake: make(chan struct{}, 1), down: make(map[string]bool)}
}

// event takes the client's events.
func (t *trouble) event(e autopaho.Event) {
	switch e.Kind {
	case autopaho.EventConnected, autopaho.EventReconnected:
		if t.up(e.ClientID) {
			t.log.info("connected")
		}
	case autopaho.EventSessionLost:
		if t.subscribes && !t.lost.Swap(true) {
			t.log.warn("the broker has lost this client's session, and what it kept there")
		}
	case autopaho.EventTooOld:
		if !t.tooOld.Swap(true) {
			t.log.warn("a message on topic %s was not printed and became a dead letter: %s; others may follow", shown(e.Topic), oneLine(e.Err))
		}
	case autopaho.EventError:
		t.failed(e)
	default:
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// up tells whether the user was told that this connection could not be made.
func (t *trouble) up(clientID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	told := t.down[clientID]
	delete(t.down, clientID)
	if len(t.down) == 0 {
		t.last = nil
	}
	return told
}

func (t *trouble) failed(e autopaho.Event) {
	if e.Err == nil || forGood(e.Err) {
		return // the command ends with it
	}
	text := oneLine(e.Err)
	t.mu.Lock()
	connecting := e.ClientID != ""
	told := t.store == text
	if connecting {
		told = len(t.down) > 0 // several connections, one broker
		t.down[e.ClientID] = true
		t.last = e.Err
	} else {
		t.store = text
	}
	t.mu.Unlock()
	switch {
	case told:
	case connecting:
		t.log.info("cannot connect: %s; trying again", text)
	default:
		t.log.warn("%s", text)
	}
}

// connecting is why there is no connection; nil if there is one, or none was
// tried.
func (t *trouble) connecting() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// unreachableError is why nothing can be done without waiting for the broker.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return "cannot connect: " + oneLine(e.err) }

func (e *unreachableError) Unwrap() error { return e.err }

// atFirst is event for a command that does not wait for a broker that is not there: it
// gives up, with an unreachableError, when none of the servers could be reached and
// there never was a connection.
func (t *trouble) atFirst(servers int, giveUp func(error)) func(autopaho.Event) {
	var mu sync.Mutex // guards the following
	connected, failed := false, make(map[string]int)
	over := func(e *autopaho.Event) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case e.Kind == autopaho.EventConnected:
			connected = true
		case e.Kind == autopaho.EventError && e.ClientID != "" && !connected && !forGood(e.Err):
			failed[e.ClientID]++
			return failed[e.ClientID] >= servers
		}
		return false
	}
	return func(e autopaho.Event) {
		if over(&e) {
			giveUp(&unreachableError{e.Err})
			return
		}
		t.event(e)
	}
}

// forGood tells whether a connection's error ends the client.
func forGood(err error) bool {
	return errors.Is(err, autopaho.ErrRefused) || errors.Is(err, autopaho.ErrDuplicateClientID)
}
