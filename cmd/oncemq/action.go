package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// action is the Action of a command: it does what all commands begin with, and then
// what the command is for, with the arguments that belong to no option.
//
// What options mean to each other on the command line is settled first, then those are
// read that were not given there, from the environment and from the configuration file.
func action(sh *shell, do func(ctx context.Context, args []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Command.ArgsUsage == "" && c.Args().Present() {
			return &usageError{problem: fmt.Sprintf("unexpected argument %s", shown(c.Args().First()))}
		}
		options := optionsOf(c.Command)
		for _, o := range options {
			if o.alone == nil {
				continue
			}
			if err := o.alone(); err != nil {
				return err
			}
		}
		if err := readOptions(c.Context, options, sh.lookup); err != nil {
			return err
		}
		for _, o := range options {
			if o.settle != nil {
				o.settle(sh.log)
			}
		}
		return do(c.Context, c.Args().Slice())
	}
}

// readOptions is environ within the time that the command has.
func readOptions(ctx context.Context, options []*option, lookup func(string) (string, bool)) error {
	var wait time.Duration
	for _, o := range options {
		if o.bound != nil {
			wait = *o.bound
		}
	}
	ctx, cancel := bounded(ctx, wait)
	defer cancel()
	return environ(ctx, options, lookup)
}

// errTimedOut is the cause of a context whose time of -W is over.
var errTimedOut = &exitError{code: exitTimeout, text: "timed out"}

// bounded bounds a context by the time of -W; zero is no bound.
func bounded(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	if wait <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, wait, errTimedOut)
}

// noCommand is the Action of a command that has others, of which one must be named.
func noCommand(c *cli.Context) error {
	var names []string
	for _, sub := range c.Command.Subcommands {
		names = append(names, sub.Name)
	}
	last := len(names) - 1
	return &usageError{problem: fmt.Sprintf("a command is missing; there are %s and %s", strings.Join(names[:last], ", "), names[last])}
}
