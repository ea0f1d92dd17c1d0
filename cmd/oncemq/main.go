// Command oncemq publishes and subscribes over MQTT 5 so that a message that was
// accepted is never lost and one that was processed is not processed again.
//
// "oncemq help" lists the commands, "oncemq help pub" the options of one. Data
// go to standard output, everything else to standard error. The exit code is 0
// for done, 1 for failed, 2 for a mistake in the command line, 3 for stored and
// not delivered in time, 4 for refused by the broker, 5 for a store that cannot
// be used, 27 for the time-out of -W, and 128 and the signal's number for a
// command that a signal kept from finishing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

func main() {
	// paho prints to os.Stdout in places; what it says must not get into the
	// data.
	stdout := os.Stdout
	os.Stdout = os.Stderr
	// go-redis logs what its errors say again, past our --log-format and --quiet.
	logging.Disable()
	// A write to a closed pipe is to return an error, not to end the process
	// before it has closed its store and left the broker in good order.
	signal.Ignore(syscall.SIGPIPE)

	ctx, stop := untilSignal(context.Background())
	code := run(ctx, os.Args, os.Environ(), os.Stdin, stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// signalError is the cause of a context that a signal has ended.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return fmt.Sprintf("ended by signal %s", e.signal) }

// exitCode is the shell's convention.
func (e signalError) exitCode() int { return 128 + int(e.signal) }

// untilSignal ends the context at the first SIGINT, SIGTERM or SIGHUP; a SIGHUP that
// somebody listens for (onHangup) does not end it. The second one ends the process at
// once, as if nobody listened.
func untilSignal(parent context.Context) (context.Context, func()) {
	h := new(hangups)
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, hangupsKey{}, h))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGHUP && h.heard() {
					continue
				}
				signal.Stop(signals)
				number, _ := s.(syscall.Signal) // every signal of a Unix is one
				cancel(signalError{number})
				return
			case <-ctx.Done():
				signal.Stop(signals)
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}
