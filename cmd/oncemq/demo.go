package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/oncemq/oncemq/fault/drill"
	"github.com/oncemq/oncemq/internal/demo"
)

// demoOptions are those of the command line.
type demoOptions struct {
	messages, kills int
	seed            *uint64 // nil: drawn
	sabotage        drill.Sabotage
	keep            bool
	json, quiet     bool
}

func (o *demoOptions) options() []*option {
	o.messages, o.kills = demo.DefaultMessages, demo.DefaultKills
	return withEnv([]*option{
		{
			name: "messages", usage: "publish `COUNT` messages", def: strconv.Itoa(demo.DefaultMessages),
			set: number(&o.messages, 1, demo.MaxMessages),
		},
		{
			name: "kills", usage: "kill the broker `COUNT` times", def: strconv.Itoa(demo.DefaultKills),
			set: number(&o.kills, 1, demo.MaxKills),
		},
		{
			name: "sabotage", usage: "take away what the promise rests on, to see the demo fail; `WHAT` is " +
				"receipts (what a broker forgets is gone), dedup (a message that arrives twice has two effects) " +
				"or both, which it also is if left out",
			words: sabotageWords, set: o.setSabotage, choices: []string{"receipts", "dedup", "both"},
		},
		{name: "seed", usage: "repeat the script of the run that has printed this `NUMBER`; drawn if left out", set: seedOf(&o.seed)},
		{name: "keep", usage: "keep the folder with the databases, and print its path", set: on(&o.keep)},
		{name: "json", usage: "print the counts as one JSON object", set: on(&o.json)},
		{name: "quiet", usage: "do not say what is going on; print the counts only", set: on(&o.quiet)},
	})
}

// sabotageWords tells whether the next argument belongs to --sabotage: it may
// stand alone.
func sabotageWords(rest []string) int {
	if len(rest) > 0 && len(rest[0]) > 0 && rest[0][0] != '-' {
		return 1
	}
	return 0
}

func (o *demoOptions) setSabotage(s string) error {
	if s == "" || s == "true" {
		s = "both"
	}
	sabotage, err := drill.ParseSabotage(s)
	if err != nil {
		return fmt.Errorf("%q is not a choice; use receipts, dedup or both", s)
	}
	o.sabotage = sabotage
	return nil
}

// demoCommand plays the demo. It starts itself as the subscriber replicas, so
// that they are processes that can be killed; such a process is told by the
// environment.
func demoCommand(sh *shell) *cli.Command {
	o := new(demoOptions)
	options := o.options()
	return &cli.Command{
		Name:      "demo",
		Usage:     "see messages survive a broker that keeps dying",
		UsageText: "oncemq demo [options]",
		Description: `
Publishes messages with receipts through an MQTT 5 broker of its own to two
subscriber replicas, while the broker is killed again and again and comes back
with everything forgotten, and one of the replicas is killed. Then it counts what
was lost and what was doubled. Needs nothing but a folder for temporary files,
and ends within 30 s. The exit code is 0 only if nothing was lost or doubled.

Examples:
  oncemq demo
  oncemq demo --sabotage receipts     what it looks like without receipts
  oncemq demo --sabotage              without receipts and without dedup`,
		Flags: toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error {
			if value, ok := sh.lookup(demo.ReplicaEnv); ok {
				// An interrupt of the terminal reaches this process too, but
				// it ends when its standard input does.
				return demo.RunReplica(context.WithoutCancel(ctx), value, sh.stdin, sh.stdout)
			}
			return o.run(ctx, sh.stdout, sh.stderr)
		}),
	}
}

// run plays the demo in a temporary folder and prints the counts.
func (o *demoOptions) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	if o.seed == nil {
		o.seed = new(rand.Uint64N(1_000_000)) //nolint:gosec // it only has to differ
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	opts := demo.Options{
		Messages: o.messages, Kills: o.kills, Seed: *o.seed, Sabotage: o.sabotage,
		Replica: func(ctx context.Context, env []string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, program, "demo")
			cmd.Env = append(os.Environ(), env...)
			return cmd
		},
	}
	if opts.Folder, err = os.MkdirTemp("", "oncemq-demo-"); err != nil {
		return err
	}
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(opts.Folder)) }()
	}
	result, err := o.play(ctx, opts, stderr)
	if o.keep {
		_, _ = fmt.Fprintf(stderr, "The databases are in %s\n", opts.Folder) // nobody is left to tell if stderr is gone
	}
	switch {
	case ctx.Err() != nil:
		return &exitError{code: exitFailed, text: "interrupted"}
	case errors.Is(err, demo.ErrOptions):
		return &usageError{problem: oneLine(err)}
	case err != nil:
		return &exitError{code: exitFailed, err: err}
	}
	if o.json {
		if o.keep {
			result.Folder = opts.Folder
		}
		err = result.WriteJSON(stdout)
	} else {
		_, width, coloured := terminal(stdout)
		var counts strings.Builder
		_ = result.WriteTable(&counts, coloured) // into memory
		_, err = io.WriteString(stdout, reflow(counts.String(), width))
	}
	if err != nil {
		return &exitError{code: exitFailed, text: "cannot write the counts", err: err}
	}
	if !result.OK {
		return &exitError{code: exitFailed} // the counts have said it
	}
	return nil
}

// play runs the demo and shows it on stderr.
func (o *demoOptions) play(ctx context.Context, opts demo.Options, stderr io.Writer) (*demo.Result, error) {
	if !o.quiet && opts.Validate() == nil {
		display := &demo.Display{W: stderr, Kills: opts.Kills}
		display.Terminal, display.Width, display.Colour = terminal(stderr)
		_, _ = io.WriteString(stderr, reflow(opts.Intro(), display.Width)+"\n") // as above
		opts.Observe = display.Observe
		defer display.Done()
	}
	return demo.Run(ctx, opts)
}

// terminal tells whether w is one, how wide it is, and whether it may be
// coloured (https://no-color.org).
func terminal(w io.Writer) (is bool, width int, coloured bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return false, 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 0 // the default
	}
	return true, width, os.Getenv("NO_COLOR") == ""
}
