package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/fault/drill"
	"github.com/oncemq/oncemq/persist"
)

// chaosOptions are those of the command line.
type chaosOptions struct {
	connection connectionOptions
	broker     []*option // of connection
	mosquitto  bool
	restart    string
	stores     []string

	rate     int
	scale    float64
	limit    time.Duration
	seed     *uint64 // nil: drawn
	sabotage drill.Sabotage

	json, quiet bool
}

// options have no environment variables for what is struck: that is said on the
// command line, and no broker or store is taken that was meant for something else.
func (o *chaosOptions) options() []*option {
	const catCourse = "Course"
	o.broker = o.connection.several("session-expiry", "receive-maximum", "max-packet-size", "max-inflight", "id-prefix", "keepalive",
		"connect-timeout", "nodelay")
	for _, option := range o.broker {
		option.env = ""
	}
	o.connection.orOwn(". What it keeps of the clients' sessions is removed in the end")
	return append(o.broker, []*option{
		{
			name: "mosquitto", category: catConnection, set: on(&o.mosquitto),
			usage: "start a mosquitto for it, from PATH or /usr/sbin, on a port of its own",
		},
		{
			name: "restart-command", category: catConnection, set: name(&o.restart),
			usage: "`COMMAND` of the shell that restarts the broker that was named, for the scenario broker-restart, which is left out without it",
		},
		{
			name: "store", category: catStore, set: list(&o.stores), def: "a SQLite file in a temporary folder",
			usage: "`URL` of the store: sqlite:///path, memory:, postgres://user@host/database or redis://host/0. A space of its own is made " +
				"there (a file beside the one that is named, a schema, a prefix) and removed in the end; nothing else is touched",
		},
		{
			name: "rate", category: catCourse, set: number(&o.rate, 1, drill.MaxRate), def: strconv.Itoa(drill.DefaultRate),
			usage: "publish that `NUMBER` of messages a second",
		},
		{
			name: "scale", category: catCourse, set: o.setScale, def: "1",
			usage: "multiply all times by a `FACTOR`: 0.5 is twice as fast",
		},
		{
			name: "limit", category: catCourse, set: positiveSpan(&o.limit), def: "60s",
			usage: "`TIME` that everything may take to come to rest after the faults",
		},
		{
			name: "seed", category: catCourse, set: seedOf(&o.seed),
			usage: "repeat the faults of the run that has printed this `NUMBER`; drawn if left out",
		},
		{
			name: "sabotage", category: catCourse, words: o.sabotageWords, set: o.setSabotage,
			choices: []string{"receipts", "dedup", "all"},
			usage: "take away what the promise rests on, to see damage; `WHAT` is receipts (what a broker forgets is gone), dedup (a message " +
				"that arrives twice has two effects) or all, which it also is if left out",
		},
		{name: "json", category: catOutput, set: on(&o.json), usage: "print an object a scenario"},
		{
			name: "quiet", category: catOutput, set: on(&o.quiet), usage: "do not say what is going on",
			settle: func(log *reporter) { log.configure(&reportOptions{quiet: o.quiet}) },
		},
	}...)
}

// sabotageWords tells whether the next argument is the value of --sabotage, and not
// the name of a scenario.
func (o *chaosOptions) sabotageWords(rest []string) int {
	if len(rest) > 0 && slices.Contains([]string{"receipts", "dedup", "all", "both", "none"}, rest[0]) {
		return 1
	}
	return 0
}

func (o *chaosOptions) setSabotage(s string) error {
	if s == "" || s == "true" || s == "all" {
		s = "both"
	}
	sabotage, err := drill.ParseSabotage(s)
	if err != nil {
		return fmt.Errorf("%q is not a choice; use receipts, dedup or all", s)
	}
	o.sabotage = sabotage
	return nil
}

func (o *chaosOptions) setScale(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= drill.MinScale && f <= drill.MaxScale) {
		return fmt.Errorf("%s is not a factor; use a number from %g to %d", shown(s), drill.MinScale, drill.MaxScale)
	}
	o.scale = f
	return nil
}

func chaosRunCommand(sh *shell) *cli.Command {
	o := new(chaosOptions)
	options := o.options()
	return &cli.Command{
		Name:      "run",
		Usage:     "play scenarios and count what was lost and what was doubled",
		UsageText: "oncemq chaos run NAME... | all [options]",
		ArgsUsage: "NAME...",
		Description: `
Prints a line for each scenario: how long it took; how many messages were sent, and
delivered to a handler; copies that reached the subscribers on the wire, and those of
them that were suppressed; what was lost and doubled, by a table that handlers write
to; and how long after the last fault everything sent until then had been processed.
The exit code is 1 if something was lost or doubled, or did not come to rest, or if
nothing was sent.

Where the broker forgets (session-forgotten, broker-restart) messages ask for
receipts; otherwise the broker's acknowledgement is enough.

Examples:
  oncemq chaos run cut reset
  oncemq chaos run all --mosquitto --store postgres://app@localhost/app
  oncemq chaos run session-forgotten --sabotage receipts`,
		Flags: toFlags(options),
		Action: action(sh, func(ctx context.Context, names []string) error {
			scenarios, all, err := scenariosOf(names)
			if err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			return o.run(ctx, sh, scenarios, all)
		}),
	}
}

// check looks for what cannot stand together.
func (o *chaosOptions) check() error {
	o.stores = slices.Compact(slices.Sorted(slices.Values(o.stores)))
	switch {
	case len(o.stores) > 1:
		return &usageError{option: "--store", problem: "is given twice, and not with the same value; one run has one"}
	case len(o.stores) == 1 && o.stores[0] == "":
		return &usageError{option: "--store", problem: "is empty"}
	}
	switch {
	case o.mosquitto && o.connection.named():
		return &usageError{option: "--mosquitto", problem: "cannot stand beside a broker that is named; one run has one broker"}
	case o.restart != "" && !o.connection.named():
		return &usageError{option: "--restart-command", problem: "needs --url or --host beside it; others are restarted without"}
	case !o.connection.named() && o.stray() != "":
		return &usageError{option: o.stray(), problem: "needs --url or --host beside it; a broker of our own is reached without"}
	case o.limit != 0 && o.limit < time.Second:
		return &usageError{option: "--limit", problem: fmt.Sprintf("%s is too short; use 1s or more", o.limit)}
	}
	return nil
}

// stray is an option that says how to reach a broker.
func (o *chaosOptions) stray() string {
	for _, option := range o.broker {
		if option.given {
			return "--" + option.name
		}
	}
	return ""
}

// startBroker starts or finds the broker.
func (o *chaosOptions) startBroker(ctx context.Context, sh *shell, folder string) (drill.Broker, error) {
	switch {
	case o.mosquitto:
		b, err := drill.Mosquitto(ctx, folder)
		if errors.Is(err, drill.ErrNoMosquitto) {
			return nil, &usageError{option: "--mosquitto", problem: err.Error() + "; install it, or leave the option out"}
		}
		return b, err
	case !o.connection.named():
		return drill.Embedded(ctx)
	}
	cfg, topic, err := o.connection.config(ctx, sh)
	switch {
	case err != nil:
		return nil, err
	case len(cfg.Servers) > 1:
		return nil, &usageError{option: "--url", problem: "is given several times; one run has one broker"}
	case topic != "":
		return nil, &usageError{option: "--url", problem: "has a topic; topics are made for each run"}
	}
	b, err := drill.Remote(cfg, o.restart)
	if err != nil {
		return nil, &usageError{option: "--url", problem: err.Error()}
	}
	return b, nil
}

// run plays the scenarios, one after another.
func (o *chaosOptions) run(ctx context.Context, sh *shell, scenarios []fault.Scenario, all bool) (err error) {
	if o.seed == nil {
		o.seed = new(rand.Uint64N(1_000_000)) //nolint:gosec // it only has to differ
	}
	folder, err := os.MkdirTemp("", "oncemq-chaos-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	broker, err := o.startBroker(ctx, sh, folder)
	switch {
	case err != nil && ctx.Err() != nil:
		return interrupted(ctx)
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	if scenarios, err = restartable(sh, broker, scenarios, all); err != nil {
		return err
	}
	opts := drill.Options{
		Broker: broker, Folder: folder, Rate: o.rate, Scale: o.scale, Seed: *o.seed, Sabotage: o.sabotage, Limit: o.limit,
	}
	if len(o.stores) == 1 {
		opts.Store = o.stores[0]
	}
	if !o.quiet {
		sh.log.info("%s through %s, seed %d", counted(len(scenarios), "scenario"), broker, *o.seed)
	}
	return o.playAll(ctx, sh, opts, scenarios)
}

// restartable leaves out what a broker that is not ours cannot do, or refuses it if
// it was named.
func restartable(sh *shell, broker drill.Broker, scenarios []fault.Scenario, all bool) ([]fault.Scenario, error) {
	if broker.Restarts() {
		return scenarios, nil
	}
	const way = "use --restart-command, or --mosquitto for one of our own"
	var left []fault.Scenario
	for _, s := range scenarios {
		switch {
		case !s.Restarts:
			left = append(left, s)
		case all:
			sh.log.info("%s is left out: the broker is not ours to restart; %s", s.Name, way)
		default:
			return nil, &usageError{option: s.Name, problem: "the broker that was named is not ours to restart; " + way}
		}
	}
	return left, nil
}

// playAll plays and prints.
func (o *chaosOptions) playAll(ctx context.Context, sh *shell, opts drill.Options, scenarios []fault.Scenario) error {
	_, width, colour := terminal(sh.stdout)
	table := drill.Table{W: sh.stdout, Width: width, Colour: colour}
	var results []*drill.Result
	for _, s := range scenarios {
		opts.Scenario = s
		r, err := o.play(ctx, sh, opts)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return interrupted(ctx)
		case errors.Is(err, fault.ErrScenario), errors.Is(err, drill.ErrOptions):
			return &usageError{problem: oneLine(err)}
		case errors.Is(err, persist.ErrInvalid), storeTrouble(err):
			return storeError(ctx, err)
		default:
			return err
		}
		results = append(results, r)
		if o.json {
			err = writeLine(sh.stdout, r)
		} else {
			err = table.Row(r)
		}
		if err != nil {
			return outputError(err)
		}
	}
	if !o.json {
		if err := table.Verdict(results, *o.seed); err != nil {
			return outputError(err)
		}
	}
	for _, r := range results {
		if r.State == drill.StateIdle {
			text := r.Scenario + ": nothing was sent, which shows nothing"
			if r.Errors["store"] == 0 {
				text += "; raise --rate or --scale"
			}
			return &exitError{code: exitFailed, text: text}
		}
	}
	if slices.ContainsFunc(results, func(r *drill.Result) bool { return !r.OK }) {
		return &exitError{code: exitFailed} // the counts have said it
	}
	return nil
}

// play plays one scenario; on a terminal it shows how far it is.
func (o *chaosOptions) play(ctx context.Context, sh *shell, opts drill.Options) (*drill.Result, error) {
	is, width, _ := terminal(sh.stderr)
	if is && !o.quiet {
		if width <= 0 {
			width = 80
		}
		// What cannot be shown is not worth a word.
		opts.Observe = func(p drill.Progress) { _, _ = io.WriteString(sh.stderr, "\r\x1b[K"+p.Line(width)) }
		defer func() { _, _ = io.WriteString(sh.stderr, "\r\x1b[K") }()
	}
	return drill.Run(ctx, opts)
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
