package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"syscall"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// execOptions are the options of sub --exec.
type execOptions struct {
	command  string
	timeout  time.Duration
	grace    time.Duration
	attempts int
	beside   []*option // those that mean nothing without a command
}

const catExec = "A command for each message"

func (o *execOptions) options() []*option {
	o.grace, o.attempts = 10*time.Second, 5
	o.beside = withEnv([]*option{
		{
			name: "exec-timeout", category: catExec, set: span(&o.timeout), def: "for ever",
			usage: "`TIME` that a command may run; then its process group is ended, and it has failed, unless it ends with 0",
		},
		{
			name: "exec-grace", category: catExec, set: span(&o.grace), def: "10s",
			usage: "`TIME` that running commands get to finish when oncemq is to end; what is not done by then is ended, and " +
				"its message given back to the broker",
		},
		{
			name: "attempts", category: catExec, set: number(&o.attempts, 1, math.MaxInt32), def: "5",
			usage: "`NUMBER` of times that a command is run for a message before that becomes a dead letter",
		},
	}, "attempts")
	return append(withEnv([]*option{{
		name: "exec", category: catExec, set: name(&o.command),
		usage: "run a `COMMAND` for each message in place of printing it: by sh -c, the payload on its standard input, the " +
			"rest in environment variables; see above",
	}}), o.beside...)
}

// check finds options that have no meaning without the command or beside it.
func (o *execOptions) check(print *printOptions) error {
	if o.command == "" {
		for _, b := range o.beside {
			if b.near {
				return &usageError{option: "--" + b.name, problem: "needs --exec beside it"}
			}
		}
		return nil
	}
	if given := print.given(); given != "" {
		return &usageError{option: given, problem: "cannot stand beside --exec; nothing is printed but what the command prints"}
	}
	if o.timeout > 0 && o.timeout < time.Millisecond {
		return &usageError{option: "--exec-timeout", problem: o.timeout.String() + " is too short; use 1ms or more"}
	}
	return nil
}

// executor runs a command for each message of a subscriber.
type executor struct {
	*subscriber
	opts *execOptions
	base []string // the environment that all commands have
}

// The exit codes by which a shell says that it cannot run a command.
const (
	shellCannotRun = 126
	shellNotFound  = 127
)

// handle runs the command for a message, which is through when the command has
// ended with 0, and by its exit code or by --exec-timeout is tried again, or dead.
func (e *executor) handle(ctx context.Context, m *autopaho.Received) error {
	skip, end := e.o.skips(m)
	if end {
		e.end(nil)
	}
	if skip {
		return e.clear(ctx, m)
	}
	if e.reserve(1) == 0 {
		return autopaho.ErrRelease // not ours any more: the next one gets it
	}
	err := e.run(ctx, m)
	if err == nil {
		err = e.clear(ctx, m)
	}
	switch {
	case err == nil:
		e.through(1)
		return nil
	case errors.Is(err, autopaho.ErrRelease), ctx.Err() != nil:
		e.giveBack(1)
		return err
	case errors.Is(err, errCommand):
		e.end(&exitError{code: exitFailed, text: "--exec", err: err})
		return autopaho.ErrRelease
	}
	if m.Attempt >= e.opts.attempts || errors.Is(err, syscall.E2BIG) {
		e.sh.log.failure(fmt.Sprintf("a message on topic %s became a dead letter after attempt %d: %s", shown(m.Topic), m.Attempt, oneLine(err)))
		e.through(1)
		return autopaho.Permanent(err)
	}
	e.sh.log.warn("attempt %d of %d for a message on topic %s failed: %s", m.Attempt, e.opts.attempts, shown(m.Topic), oneLine(err))
	e.giveBack(1)
	return err
}

// errCommand tells that the command as such is of no use, whatever the message.
var errCommand = errors.New("the command cannot be run")

// run runs the command once and returns how it ended.
func (e *executor) run(ctx context.Context, m *autopaho.Received) error {
	cmd := exec.Command("/bin/sh", "-c", e.opts.command) //nolint:gosec,noctx // the command is the user's; end() ends it, with its group
	cmd.Env = appendMessageEnv(e.base[:len(e.base):len(e.base)], m)
	c, err := startChild(cmd, m.Payload, e.out, e.sh.log)
	switch {
	case errors.Is(err, syscall.E2BIG):
		return fmt.Errorf("the message's properties do not fit into an environment: %w", err)
	case err != nil: // no shell, or no more processes: it is not the message's fault
		return fmt.Errorf("%w: %w", errCommand, err)
	}
	var timeout <-chan time.Time
	if e.opts.timeout > 0 {
		t := time.NewTimer(e.opts.timeout)
		defer t.Stop()
		timeout = t.C
	}
	late := false // it has had its time
	over := false // it is ended since we are to end, or since the message is another's
	ended, grace := e.ended, (<-chan time.Time)(nil)
wait:
	for {
		select {
		case <-c.done:
			break wait
		case <-timeout:
			late = true
			c.end()
			break wait
		case <-ended:
			ended = nil
			t := time.NewTimer(e.opts.grace)
			defer t.Stop()
			grace = t.C
		case <-grace:
			over = true
			c.end()
			break wait
		case <-ctx.Done():
			over = true
			c.end()
			break wait
		}
	}
	if err := e.out.failure(); err != nil {
		e.end(outputError(err))
		return autopaho.ErrRelease
	}
	switch code := c.cmd.ProcessState.ExitCode(); {
	case code == 0:
		return nil // also if it was told to end, and finished
	case late:
		return c.failed(fmt.Sprintf("ended after %s, the time of --exec-timeout", e.opts.timeout))
	case over:
		return autopaho.ErrRelease
	case code == shellCannotRun || code == shellNotFound:
		return fmt.Errorf("%w: %w", errCommand, c.failed(c.cmd.ProcessState.String()))
	}
	return c.failed(c.cmd.ProcessState.String())
}

// patience is how long closing may take because of commands.
func (o *execOptions) patience() time.Duration {
	if o.command == "" {
		return 0
	}
	return o.grace + killAfter + outputAfter
}
