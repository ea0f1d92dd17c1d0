package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// shell is what a command has around it.
type shell struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// env is the environment; lookup reads it.
	env    []string
	lookup func(name string) (value string, ok bool)
	// log writes to stderr.
	log *reporter
	// traces is nil unless the command has some to send.
	traces *traces
}

// run carries out a command line and returns the exit code. It is all of
// oncemq but the signals and the process's own streams: main and the tests call
// it.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	sh := &shell{stdin: stdin, stdout: stdout, stderr: stderr, env: env, lookup: lookupIn(env)}
	app := newApp(sh)
	if len(args) == 0 {
		args = []string{app.Name}
	}
	if len(args) == 2 && (args[1] == "--version" || args[1] == "-version") {
		args = []string{args[0], "version"}
	}
	r, err := readArgs(app, args)
	sh.log = newReporter(stderr, r.title())
	switch {
	case err != nil:
	case r.help:
		err = writeHelp(stdout, app, r)
	default:
		err = app.RunContext(ctx, r.args)
		sh.traces.close()
	}
	return sh.finish(err)
}

// finish prints what went wrong and returns the exit code.
func (sh *shell) finish(err error) int {
	var (
		usage *usageError
		exit  *exitError
	)
	switch {
	case err == nil:
		return exitDone
	case sh.unread(err):
		return exitFailed
	case errors.As(err, &usage):
		sh.log.usage(usage)
		return exitUsage
	case errors.As(err, &exit):
		if exit.Error() != "" {
			sh.log.failure(oneLine(exit))
		}
		return exit.code
	}
	sh.log.failure(oneLine(err))
	return exitCode(err)
}

// unread tells whether an error is that nobody reads standard output any more, which is
// nothing to talk about: "oncemq sub | head -1" is common.
func (sh *shell) unread(err error) bool {
	f, ok := sh.stdout.(*os.File)
	var path *fs.PathError
	return ok && errors.As(err, &path) && path.Path == f.Name() && errors.Is(path.Err, syscall.EPIPE)
}

func newApp(sh *shell) *cli.App {
	app := &cli.App{
		Name:  "oncemq",
		Usage: "MQTT 5 messages that are neither lost nor processed twice",
		Description: `
pub stores messages before it sends them, so that they survive a crash of the
program, of the broker and of the network; sub can share work and the memory of
what was processed among many replicas. Options mean what they mean to
mosquitto_pub and mosquitto_sub; -h is the host, and --help is help. Every option
can be given by the environment variable that stands beside it; the command line
wins.`,
		Commands: commands(sh),
		Action: func(*cli.Context) error {
			return &usageError{problem: "no command is given; try oncemq demo, or oncemq --help"}
		},
		Reader: sh.stdin, Writer: sh.stdout, ErrWriter: sh.stderr,
		HideHelp: true, HideVersion: true,
		// The exit is main's.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	prepare(app.Commands)
	return app
}

// commands are the commands of oncemq, in the order in which the help has them.
func commands(sh *shell) []*cli.Command {
	return []*cli.Command{
		demoCommand(sh),
		chaosCommand(sh),
		pubCommand(sh),
		subCommand(sh),
		rrCommand(sh),
		relayCommand(sh),
		outboxCommand(sh),
		deadCommand(sh),
		dedupCommand(sh),
		storeCommand(sh),
		statusCommand(sh),
		qosCommand(sh),
		doctorCommand(sh),
		benchCommand(sh),
		completionCommand(sh),
		manCommand(sh),
		versionCommand(sh),
	}
}

// prepare gives all commands what they have in common.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelp = true
		c.HideHelpCommand = true
		c.OnUsageError = usageErrorOf
		if c.Action == nil {
			c.Action = noCommand
		}
		prepare(c.Subcommands)
	}
}

// eachCommand calls fn for every command that has options of ours, with its path.
func eachCommand(commands []*cli.Command, path []string, fn func(path []string, options []*option)) {
	for _, c := range commands {
		own := append(path[:len(path):len(path)], c.Name)
		if options := optionsOf(c); len(options) > 0 {
			fn(own, options)
		}
		eachCommand(c.Subcommands, own, fn)
	}
}

// usageErrorOf finds the fault that an option has kept, or makes one of what
// urfave/cli says.
func usageErrorOf(c *cli.Context, err error, _ bool) error {
	for _, o := range optionsOf(c.Command) {
		if o.fault != nil {
			return o.fault
		}
	}
	return &usageError{problem: strings.TrimSpace(err.Error())}
}

// lookupIn looks names up in an environment of the form of os.Environ; the last
// of a name counts.
func lookupIn(env []string) func(string) (string, bool) {
	values := make(map[string]string, len(env))
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			values[name] = value
		}
	}
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}
