package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/load"
	"github.com/oncemq/oncemq/persist"
)

// benchOptions are those of the commands of bench.
type benchOptions struct {
	kind       string // pub, sub, e2e, store
	connection connectionOptions
	store      storeOptions
	report     reportOptions

	noStore                      bool
	topic                        string
	qos                          byte
	clients, subscribers         int
	size, batch, count, inFlight int
	rate                         float64
	between, every               time.Duration
	duration, settle             time.Duration
	json                         bool
	compare, plot                string

	before *load.Result // of compare
}

func (o *benchOptions) options() []*option {
	const category = "Load"
	o.qos, o.size, o.clients, o.subscribers, o.batch = 1, 256, 1, 1, 100
	publishes, connects := o.kind != "sub", o.kind != "store"
	var options []*option
	add := func(when bool, o *option) {
		if o.category = category; when {
			options = append(options, o)
		}
	}
	clients := "publish at once; with a store they share its relay, without each has a connection"
	switch o.kind {
	case "sub":
		clients = "subscribe; with a store they share messages as a group, without each gets all"
	case "store":
		clients = "call the store at once"
	}
	add(true, &option{name: "clients", also: []string{"c"}, set: number(&o.clients, 1, 10_000), def: "1", usage: "`NUMBER` of clients that " + clients})
	add(o.kind == "e2e", &option{
		name: "subscribers", set: number(&o.subscribers, 1, 1000), def: "1",
		usage: "`NUMBER` of subscribers; with a store they share messages as a group, without each gets all",
	})
	add(connects, &option{name: "interval", also: []string{"i"}, set: thousandths(&o.between), def: "0", usage: "`MILLISECONDS` between the starts of two clients"})
	add(publishes, &option{
		name: "rate", set: decimal(&o.rate), def: "as many as go",
		usage: "`NUMBER` of messages a second, of all clients together; latency counts from when each is due",
	})
	add(publishes, &option{
		name: "message-interval", also: []string{"im"}, set: thousandths(&o.every),
		usage: "`MILLISECONDS` between two messages of a client, in place of --rate",
	})
	add(true, &option{name: "count", also: []string{"L", "limit"}, set: o.setCount(connects), usage: "end after this `NUMBER` of messages, of all clients together"})
	add(true, &option{name: "duration", set: positiveSpan(&o.duration), def: "10s without --count", usage: "end after this `TIME`"})
	add(publishes, &option{
		name: "size", also: []string{"S", "payload-size"}, set: number(&o.size, load.HeaderSize, 256<<20), def: "256",
		usage: fmt.Sprintf("payload in `BYTES`, %d at least: its head has a number and a time", load.HeaderSize),
	})
	add(connects, &option{name: "topic", also: []string{"t"}, set: name(&o.topic), def: "oncemq/bench", usage: "first part of the `TOPIC`s; more levels follow"})
	add(connects, &option{name: "qos", also: []string{"q"}, set: level(&o.qos), choices: levels(), def: "1", usage: "`LEVEL`: 0, which needs --no-store, 1 or 2"})
	add(publishes, &option{name: "batch", set: number(&o.batch, 1, 10_000), def: "100", usage: "most messages, a `NUMBER`, that are stored in one call"})
	add(publishes && connects, &option{
		name: "calls", set: number(&o.inFlight, 1, 10_000), def: "32",
		usage: "with --no-store, `NUMBER` of messages of a client that wait for an answer at a time",
	})
	add(connects && publishes, &option{
		name: "settle", set: positiveSpan(&o.settle), def: "10s", usage: "`TIME` to wait at the end for what has not arrived",
	})
	options = append(options, []*option{
		{name: "json", category: catOutput, set: on(&o.json), usage: "print one JSON object"},
		{name: "compare", category: catOutput, set: name(&o.compare), usage: "print ratios to an earlier result, a `FILE` that --json wrote"},
		{
			name: "plot", category: catOutput, set: name(&o.plot),
			usage: "draw throughput and latency over time into a `FILE` that ends in .svg or .html",
		},
	}...)
	for _, option := range options { // one run's, all of them
		option.env = ""
	}
	if connects {
		broker := o.connection.several("session-expiry")
		o.connection.given.urls.also = []string{"broker"} // -L is --count, as MQTTX's bench has it
		options = append(options, broker...)
		options = append(options, withEnv([]*option{{
			name: "no-store", category: catStore, set: on(&o.noStore),
			usage: "publish and subscribe plainly: nothing is stored, and nothing kept from coming twice",
		}}, "no-store")...)
	}
	stores := o.store.options()
	stores[0].def = "a SQLite file for this run beside the default store"
	// Not ONCEMQ_STORE: that may be the one that the application lives on.
	stores[0].env = "ONCEMQ_BENCH_STORE"
	stores[0].usage = strings.ReplaceAll(stores[0].usage, "ONCEMQ_STORE", stores[0].env)
	return append(append(options, stores...), o.report.options()...)
}

// setCount takes the number of messages. For all other commands -L is the URL of a
// broker.
func (o *benchOptions) setCount(connects bool) func(string) error {
	count := number(&o.count, 0, math.MaxInt32)
	return func(s string) error {
		err := count(s)
		if err != nil && connects && strings.Contains(s, "://") {
			return fmt.Errorf("%w; the broker's URL is --url's here", err)
		}
		return err
	}
}

// thousandths takes milliseconds, as MQTTX's bench does, or a duration with a unit.
func thousandths(dst *time.Duration) func(string) error {
	return func(s string) error {
		if n, err := strconv.ParseFloat(s, 64); err == nil {
			if n < 0 || n > 1e9 || math.IsNaN(n) {
				return fmt.Errorf("%s is out of range; use 0 to 1000000000", s)
			}
			*dst = time.Duration(n * float64(time.Millisecond))
			return nil
		}
		return span(dst)(s)
	}
}

// decimal takes a number that is not negative.
func decimal(dst *float64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(n) || n < 0 || n > 1e9 {
			return fmt.Errorf("%s is not a rate; use a number from 0 to 1000000000", shown(s))
		}
		*dst = n
		return nil
	}
}

func benchCommand(sh *shell) *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure throughput, latency and loss of a broker and a store",
		UsageText: "oncemq bench COMMAND [options]",
		Description: `
Publishers, subscribers or both, through the outbox and the group's memory of keys
(the default) or plainly (--no-store), at a rate or as fast as it goes. Latency
counts from when a message was due, so that what waits behind a slow answer counts
as well. Numbers in the payloads tell what was lost and what came twice.

An interrupt ends a run early and prints what there is. Without --store the store
is a file that is removed at the end; $ONCEMQ_STORE is not heeded. One that is named
must have an empty outbox, and keys that a run has marked stay in it for 15 minutes.

The exit code is 0, 1 if something was lost or refused, 3 if something is stored and
was not delivered in time.

Examples:
  oncemq bench e2e -c 4 --rate 5000 --duration 30s
  oncemq bench pub --no-store -q 0 -L 100000 --json > before.json
  oncemq bench pub --no-store -q 0 -L 100000 --compare before.json --plot now.svg
  oncemq bench store --store postgres://app@db/bench -c 8`,
		Subcommands: []*cli.Command{
			benchKind(sh, "pub", "publish, and measure until the broker has acknowledged", load.RunPublish, `
Examples:
  oncemq bench pub -c 4 --rate 5000 --duration 30s
  oncemq bench pub --no-store -q 0 -L 100000 --json`),
			benchKind(sh, "sub", "receive what bench pub publishes elsewhere to the same topic", load.RunSubscribe, `
Latency is the difference of two clocks if bench pub runs on another machine: they
must agree. Lost is what is missing between the first and the last message of each
publisher that has come. In one process bench e2e does both, by one clock.

Examples:
  oncemq bench sub -h broker.example --duration 1m`),
			benchKind(sh, "e2e", "publish and receive in one process, and count what was lost", load.RunBoth, `
Examples:
  oncemq bench e2e -c 4 --rate 5000 --duration 30s --plot now.svg`),
			benchKind(sh, "store", "measure a store alone: enqueue, drain, claim", load.RunStore, `
Messages are enqueued, drained as a relay does it, and as many keys claimed and
completed as a group of subscribers does it. --duration bounds the first and the last.

Examples:
  oncemq bench store --store postgres://app@db/bench -c 8`),
		},
	}
}

func benchKind(sh *shell, kind, usage string, run func(context.Context, load.Config) (load.Result, error), more string) *cli.Command {
	o := &benchOptions{kind: kind}
	options := o.options()
	return &cli.Command{
		Name: kind, Usage: usage, UsageText: "oncemq bench " + kind + " [options]", Description: more,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return o.run(ctx, sh, run) }),
	}
}

// run prepares a run, and shows what it has measured.
func (o *benchOptions) run(ctx context.Context, sh *shell, run func(context.Context, load.Config) (load.Result, error)) (err error) {
	cfg, err := o.config(ctx, sh)
	if err != nil {
		return err
	}
	if err := o.check(ctx); err != nil {
		return err
	}
	place := ""
	if !o.noStore {
		var remove func()
		if cfg.Store, place, remove, err = o.open(ctx, sh); err != nil {
			return err
		}
		defer remove()
	}
	live := startLive(sh)
	cfg.Observe = live.observe
	res, err := run(ctx, cfg)
	live.stop()
	res.Store = place
	switch {
	case err != nil && res.Seconds == 0: // it never began
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		return benchError(ctx, err)
	case err != nil:
		sh.log.failure(oneLine(err))
	}
	if shown := o.show(sh, &res); shown != nil {
		return shown
	}
	return verdict(ctx, err, &res)
}

// benchError is why a run did not begin.
func benchError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, load.ErrConfig):
		return &usageError{problem: oneLine(err)}
	case errors.Is(err, load.ErrStoreInUse):
		return &exitError{code: exitStore, text: "--store", err: err}
	}
	return storeError(ctx, err)
}

// verdict is the end of a run whose result was printed.
func verdict(ctx context.Context, err error, res *load.Result) error {
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case err != nil:
		return &exitError{code: exitCode(err)}
	case res.Lost > 0 || res.Failed > 0:
		return &exitError{code: exitFailed, text: fmt.Sprintf("%d messages were lost, %d failed", res.Lost, res.Failed)}
	case res.Undelivered > 0:
		return &exitError{code: exitStored, text: fmt.Sprintf("%d messages are stored and were not delivered in time", res.Undelivered)}
	}
	return nil
}

// check looks at the files before a run, not after.
func (o *benchOptions) check(ctx context.Context) error {
	if o.plot != "" {
		if ext := filepath.Ext(o.plot); ext != ".svg" && ext != ".html" {
			return &usageError{option: "--plot", problem: shown(o.plot) + " does not end in .svg or .html"}
		}
		if _, err := os.Stat(filepath.Dir(o.plot)); err != nil {
			return &usageError{option: "--plot", problem: err.Error()}
		}
	}
	if o.compare == "" {
		return nil
	}
	data, err := readFile(ctx, "--compare", o.compare)
	if err != nil {
		return err
	}
	o.before = new(load.Result)
	if err := json.Unmarshal(data, o.before); err != nil {
		return &usageError{option: "--compare", problem: shown(o.compare) + " is not a result of oncemq bench --json"}
	}
	if _, _, err := (&load.Result{Kind: o.kind}).Compare(o.before); err != nil {
		return &usageError{option: "--compare", problem: shown(o.compare) + ": " + err.Error()}
	}
	return nil
}

// config is the run's configuration, without its store.
func (o *benchOptions) config(ctx context.Context, sh *shell) (cfg load.Config, err error) {
	cfg = load.Config{
		Topic: o.topic, QoS: o.qos, Clients: o.clients, Subscribers: o.subscribers, ConnectEvery: o.between,
		Rate: o.rate, Size: o.size, Count: int64(o.count), Duration: o.duration, Batch: o.batch, InFlight: o.inFlight, Settle: o.settle,
	}
	switch {
	case o.rate > 0 && o.every > 0:
		return cfg, &usageError{option: "--message-interval", problem: "cannot stand beside --rate; give one"}
	case o.every > 0:
		cfg.Rate = float64(o.clients) * float64(time.Second) / float64(o.every)
	}
	if o.kind == "store" {
		return cfg, nil
	}
	if o.noStore && o.store.url != "" {
		return cfg, &usageError{option: "--no-store", problem: "cannot stand beside --store; give one"}
	}
	if o.qos == 0 && !o.noStore {
		return cfg, &usageError{option: "--qos", problem: "the outbox has no level 0; use 1 or 2, or --no-store"}
	}
	var topic string
	if cfg.Broker, topic, err = o.connection.config(ctx, sh); err != nil {
		return cfg, err
	}
	if cfg.Topic == "" {
		cfg.Topic = topic
	}
	cfg.Broker.ClientID = "oncemq-bench-"
	if o.connection.idPrefix != "" {
		cfg.Broker.ClientID = o.connection.idPrefix
	}
	return cfg, nil
}

// open opens the store that was named, or makes one for this run. remove closes it, and
// deletes what was made.
func (o *benchOptions) open(ctx context.Context, sh *shell) (store persist.Store, kind string, remove func(), err error) {
	if o.store.url != "" {
		u, err := url.Parse(o.store.url)
		if err != nil {
			return nil, "", nil, &usageError{option: "--store", problem: "store URL cannot be parsed"}
		}
		if store, err = openURL(ctx, o.store.url); err != nil {
			return nil, "", nil, err
		}
		return store, u.Scheme, func() { closeStore(sh, store) }, nil
	}
	// Where the default store is: a folder for temporary files may be in memory, where
	// nothing is synchronised.
	file, err := defaultStore(sh)
	if err != nil {
		return nil, "", nil, err
	}
	dir := filepath.Dir(file)
	if err = os.MkdirAll(dir, 0o700); err == nil {
		dir, err = os.MkdirTemp(dir, "bench-")
	}
	if err != nil {
		return nil, "", nil, &exitError{code: exitStore, text: "--store: a store for this run cannot be made; name one", err: err}
	}
	removeFile := func() {
		if err := os.RemoveAll(dir); err != nil {
			sh.log.warn("the store of this run was not removed: %s", oneLine(err))
		}
	}
	if store, err = openURL(ctx, sqliteURL(filepath.Join(dir, "store.db"))); err != nil {
		removeFile()
		return nil, "", nil, err
	}
	return store, "sqlite", func() {
		closeStore(sh, store)
		removeFile()
	}, nil
}
