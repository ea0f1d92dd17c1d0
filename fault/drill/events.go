package drill

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// events counts what the clients tell.
type events struct {
	mu         sync.Mutex // guards the following
	reconnects int
	lost       int // sessions
	delivered  int
	errors     map[string]int // by class
	connected  map[string]bool
	undone     map[string]error // by message ID: why the publisher has given it up
}

func newEvents() *events {
	return &events{errors: make(map[string]int), connected: make(map[string]bool), undone: make(map[string]error)}
}

// take is the clients' OnEvent.
func (v *events) take(e autopaho.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.Kind {
	case autopaho.EventConnected, autopaho.EventReconnected:
		v.connected[e.ClientID] = true
		if e.Kind == autopaho.EventReconnected {
			v.reconnects++
		}
	case autopaho.EventDisconnected:
		v.connected[e.ClientID] = false
		v.failed(e.Err)
	case autopaho.EventError:
		v.failed(e.Err)
	case autopaho.EventSessionLost:
		v.lost++
	case autopaho.EventDelivered:
		v.delivered++
	case autopaho.EventFailed:
		v.undone[e.MessageID] = e.Err
	default:
	}
}

// failed counts an error; v.mu is held.
func (v *events) failed(err error) {
	if err != nil {
		v.errors[classOf(err)]++
	}
}

// enqueueFailed counts an error of Enqueue.
func (v *events) enqueueFailed(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed(err)
}

// allConnected tells whether every client that ever was is connected now.
func (v *events) allConnected() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, up := range v.connected {
		if !up {
			return false
		}
	}
	return true
}

// givenUp tells which messages the publisher has given up, and why.
func (v *events) givenUp() map[string]error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.undone)
}

// counts are the counts so far.
func (v *events) counts() (reconnects, sessionsLost, delivered int, errs map[string]int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reconnects, v.lost, v.delivered, maps.Clone(v.errors)
}

// classOf puts an error into one of a few classes, by what has ended a connection or
// kept it from being made.
func classOf(err error) string {
	var timeout net.Error
	text := err.Error()
	switch {
	case errors.Is(err, persist.ErrUnavailable), errors.Is(err, persist.ErrUnknownOutcome):
		return "store"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.Contains(text, "connection reset"):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.HasSuffix(text, "EOF"):
		return "closed"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout(), strings.Contains(text, "PINGRESP"),
		strings.Contains(text, "timeout"), strings.Contains(text, "deadline"), strings.Contains(text, "did not answer"):
		return "timeout"
	}
	return "other"
}
