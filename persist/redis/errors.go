package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/persist"
)

// translate makes an error of the client or the server into one of persist: with
// what was being done, to what, and the sentinel. The cause stays reachable by
// errors.As. changes tells that the call may have changed something, so that an
// answer that did not come leaves the outcome open. A *persist.Error passes as it
// is.
func translate(op, object string, changes bool, err error) error {
	if err == nil {
		return nil
	}
	var done *persist.Error
	if errors.As(err, &done) {
		return err
	}
	return &persist.Error{Op: op, Object: object, Kind: kindOf(err, changes), Err: err}
}

// refuse is an error of persist that has no cause beneath it.
func refuse(op, object string, kind error) error {
	return &persist.Error{Op: op, Object: object, Kind: kind}
}

// invalid refuses an argument, and says what is wrong with it.
func invalid(op, object, format string, args ...any) error {
	return &persist.Error{Op: op, Object: object, Kind: persist.ErrInvalid, Err: fmt.Errorf(format, args...)}
}

// replyKinds are the first words of the server's errors that have a meaning for
// us. With each of them nothing was changed: the server refuses a script before
// it begins, or at its first write.
func replyKind(word string) (kind error, known bool) {
	switch word {
	case "OOM":
		return persist.ErrStoreFull, true
	case "MISCONF":
		// The last snapshot or the append only file could not be written: the
		// disk is full, nearly always.
		return persist.ErrStoreFull, true
	case "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "READONLY", "MOVED", "ASK",
		"NOAUTH", "WRONGPASS", "NOPERM", "UNKILLABLE", "NOSCRIPT", "NOTREADY", "FAILOVER":
		return persist.ErrUnavailable, true
	case "WRONGTYPE", "CROSSSLOT":
		return persist.ErrCorrupt, true
	}
	return nil, false
}

// kindOf is the sentinel of an error; nil for the context's, which stand for
// themselves, and for errors that already wrap a sentinel.
func kindOf(err error, changes bool) error {
	if isKind(err) {
		return nil
	}
	var reply goredis.Error
	if errors.As(err, &reply) && !errors.Is(err, goredis.Nil) {
		return replyErrorKind(reply.Error())
	}
	switch {
	case notSent(err):
		if isContext(err) {
			return nil
		}
		return persist.ErrUnavailable
	case changes:
		return persist.ErrUnknownOutcome
	case isContext(err):
		return nil
	}
	return persist.ErrUnavailable
}

// replyErrorKind is the sentinel of a reply that is an error. One that was
// raised within a script has its code somewhere in the text on older servers.
func replyErrorKind(text string) error {
	word, _, _ := strings.Cut(strings.TrimPrefix(text, "ERR "), " ")
	if kind, known := replyKind(word); known {
		return kind
	}
	for _, word := range []string{"OOM", "MISCONF", "READONLY", "NOREPLICAS", "WRONGTYPE", "NOPERM"} {
		if strings.Contains(text, "-"+word+" ") || strings.Contains(text, ": "+word+" ") {
			kind, _ := replyKind(word)
			return kind
		}
	}
	// A script that failed has met what none of ours has written, unless somebody
	// has stopped it. All else the server said before any script had begun: too many
	// clients, protected mode, a database that is not there.
	if fromScript(text) && !strings.Contains(text, "killed by user") {
		return persist.ErrCorrupt
	}
	return persist.ErrUnavailable
}

// fromScript tells whether a reply that is an error was raised within a script.
// The server names the script then: "script: <digest>, on @user_script:1." from
// Redis 7 on, "Error running script (call to f_<digest>)" before.
func fromScript(text string) bool {
	return strings.Contains(text, "user_script:") || strings.Contains(text, "script: ") ||
		strings.Contains(text, "Error running script")
}

// notSent tells whether an error came before a command was on its way: nothing
// can have happened then.
func notSent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		return true
	}
	var early *notSentError
	return errors.As(err, &early) || errors.Is(err, goredis.ErrPoolTimeout) || errors.Is(err, goredis.ErrPoolExhausted) ||
		errors.Is(err, goredis.ErrClosed)
}

// notSentError is an error that came before anything was sent.
type notSentError struct{ error }

func (e *notSentError) Unwrap() error { return e.error }

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isKind(err error) bool {
	for _, kind := range []error{
		persist.ErrInvalid, persist.ErrNotFound, persist.ErrLeaseHeld, persist.ErrLeaseLost,
		persist.ErrOutboxFull, persist.ErrStoreFull, persist.ErrReadOnly, persist.ErrCorrupt,
		persist.ErrSchema, persist.ErrUnavailable, persist.ErrUnknownOutcome, persist.ErrClosed,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// isTimeout tells whether nothing came in time.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
