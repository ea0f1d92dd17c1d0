package session

import (
	"errors"
	"fmt"
	"strings"

	"github.com/oncemq/oncemq/qos"
)

// Why a link is down or ended, or a request failed, for errors.Is.
var (
	// ErrRefused: the server refused the connection, and would again.
	ErrRefused = errors.New("refused by the broker")
	// ErrSessionTakenOver: another client connected with our client ID.
	ErrSessionTakenOver = errors.New("session taken over by another client with the same client ID")
	// ErrClosed: the link was closed.
	ErrClosed = errors.New("link is closed")
	// ErrConnectionLost: the connection ended before the answer came.
	ErrConnectionLost = errors.New("connection lost before the broker answered")
	// ErrTooManyRequests: so many SUBSCRIBE and UNSUBSCRIBE of the connection have had
	// no answer that no more are sent. Each keeps its packet identifier until it is
	// answered, however long ago its sender gave up.
	ErrTooManyRequests = errors.New("too many SUBSCRIBE and UNSUBSCRIBE wait for their answers")
)

// ConnackError is a CONNACK that refused the connection.
type ConnackError struct {
	Code   byte
	Reason string // the server's reason string
}

// Error describes the refusal in the specification's words.
func (e *ConnackError) Error() string {
	return "broker refused the connection: " + qos.Describe(e.Code, e.Reason)
}

// Is makes refusals that will not change by themselves match ErrRefused.
func (e *ConnackError) Is(target error) bool {
	return target == ErrRefused && qos.ClassOf(qos.CONNACK, e.Code) == qos.Stop
}

// DisconnectError is a DISCONNECT of the server.
type DisconnectError struct {
	Code   byte
	Reason string
}

// Error describes the end in the specification's words.
func (e *DisconnectError) Error() string {
	return "broker ended the connection: " + qos.Describe(e.Code, e.Reason)
}

// Is makes a takeover match ErrSessionTakenOver, and other ends after which
// connecting again by itself would be wrong match ErrRefused.
func (e *DisconnectError) Is(target error) bool {
	switch target {
	case ErrSessionTakenOver:
		return e.Code == 0x8E
	case ErrRefused:
		return e.Code != 0x8E && qos.ClassOf(qos.DISCONNECT, e.Code) == qos.Stop
	}
	return false
}

// SubscribeError is a SUBACK that refused a filter.
type SubscribeError struct {
	Filter string
	Code   byte
}

// Error describes the refusal in the specification's words.
func (e *SubscribeError) Error() string {
	return fmt.Sprintf("broker refused to subscribe to %q: %s", e.Filter, qos.Describe(e.Code, ""))
}

// redacted keeps an error's chain and takes credentials out of its text:
// errors of autopaho and of the net packages quote the server's URL.
type redacted struct {
	err     error
	secrets []string
}

func (r *redacted) Unwrap() error { return r.err }

func (r *redacted) Error() string { return redact(r.err.Error(), r.secrets) }

func redact(s string, secrets []string) string {
	for _, secret := range secrets {
		s = strings.ReplaceAll(s, secret, "xxxxx")
	}
	return s
}
