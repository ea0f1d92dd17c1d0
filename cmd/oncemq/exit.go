package main

import (
	"errors"
	"strings"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// The exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitStored  = 3  // stored but not delivered in time: the next relay delivers it
	exitRefused = 4  // by the broker
	exitStore   = 5  // the store cannot be used
	exitTimeout = 27 // of -W, as mosquitto_sub has it
)

// exitError is an error that decides the exit code. With an empty text nothing
// is printed: it was said already.
type exitError struct {
	code int
	text string
	err  error
}

func (e *exitError) Error() string {
	switch {
	case e.err == nil:
		return e.text
	case e.text == "":
		return e.err.Error()
	}
	return e.text + ": " + e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake in the command line or in the environment. It is
// printed as one line, with a hint at --help.
type usageError struct {
	option  string // "--qos", or the environment variable; may be empty
	problem string
}

func (e *usageError) Error() string {
	if e.option == "" {
		return e.problem
	}
	return e.option + ": " + e.problem
}

// exitCode tells what an error means for whoever called.
func exitCode(err error) int {
	var (
		exit  *exitError
		usage *usageError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, autopaho.ErrRefused), errors.Is(err, autopaho.ErrDuplicateClientID), refusedSubscription(err):
		return exitRefused
	case storeTrouble(err):
		return exitStore
	case errors.Is(err, autopaho.ErrConfig), errors.Is(err, qos.ErrInvalid) && !badPayload(err),
		errors.Is(err, persist.ErrInvalid):
		return exitUsage
	}
	return exitFailed
}

func refusedSubscription(err error) bool {
	var refused *autopaho.SubscribeError
	return errors.As(err, &refused)
}

// storeTrouble tells whether an error is the store's, and not about what was
// asked of it.
func storeTrouble(err error) bool {
	for _, kind := range []error{
		persist.ErrUnavailable, persist.ErrStoreFull, persist.ErrReadOnly, persist.ErrCorrupt,
		persist.ErrSchema, persist.ErrUnknownOutcome, persist.ErrClosed,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// badPayload tells whether it is the data that is wrong, and not an option.
func badPayload(err error) bool {
	var field *qos.FieldError
	return errors.As(err, &field) && field.Field == "payload"
}

// oneLine makes one line of an error that may have several: errors.Join puts
// each on a line of its own.
func oneLine(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
