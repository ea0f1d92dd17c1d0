package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// relayOptions are the options of relay.
type relayOptions struct {
	connection connectionOptions
	store      storeOptions
	monitor    monitorOptions
	report     reportOptions
	stats      statsOptions
	once       bool
	timeout    time.Duration

	given struct{ timeout *option }
}

func (o *relayOptions) options() []*option {
	o.given.timeout = &option{
		name: "timeout", category: catDelivery, set: span(&o.timeout), def: "for ever",
		usage: "`TIME` after which --once gives up, with exit code 3; 0 is for ever",
	}
	options := withEnv([]*option{
		{name: "once", category: catDelivery, set: on(&o.once), usage: "end when the outbox is empty"},
		o.given.timeout,
	})
	options = append(options, o.store.options()...)
	options = append(options, o.connection.options(true)...)
	options = append(options, o.monitor.options()...)
	return append(append(options, o.report.options()...), o.stats.options()...)
}

func relayCommand(sh *shell) *cli.Command {
	o := new(relayOptions)
	options := o.options()
	return &cli.Command{
		Name:      "relay",
		Usage:     "deliver what is in a store until stopped",
		UsageText: "oncemq relay [-h HOST] [--store URL] [--once] [options]",
		Description: `
Sends what pub --no-wait, other programs and earlier runs have stored. Several
relays may work on one store: each lane of it is drained by one of them, and
another takes over when that one ends or dies.

Examples:
  oncemq relay -h broker.example
  oncemq relay --store sqlite:///var/lib/app/outbox.db -L mqtts://broker.example
  oncemq relay --once --timeout 1m
  oncemq relay -h broker.example --listen 127.0.0.1:9464

Traces: if OTEL_EXPORTER_OTLP_ENDPOINT is set, such as to http://localhost:4318, spans
are sent there by OTLP over HTTP; other variables of OpenTelemetry count as well.

Exit codes: 0 stopped by SIGINT or SIGTERM, or the outbox is empty, 1 failed, 2
usage, 3 --once and not empty in time, 4 refused by the broker, 5 the store
cannot be used.`,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return relay(ctx, sh, o) }),
	}
}

func relay(ctx context.Context, sh *shell, o *relayOptions) error {
	switch {
	case o.once:
	case !o.given.timeout.near:
		o.timeout = 0 // pub's, perhaps
	case o.timeout > 0:
		return &usageError{option: "--timeout", problem: "belongs to --once; a relay without it runs until it is stopped"}
	}
	cfg, _, err := o.connection.config(ctx, sh)
	if err != nil {
		return err
	}
	if o.store.inMemory() {
		return &usageError{option: "--store", problem: "memory: begins empty in every process, so that there is nothing to deliver; name a file"}
	}
	m, err := o.monitor.start(ctx, sh, false)
	if err != nil {
		return err
	}
	defer m.close()
	m.measure(&cfg)
	sh.trace(ctx, &cfg)
	store, err := o.store.open(ctx, sh)
	if err != nil {
		return err
	}
	defer closeStore(sh, store)
	relayIdentity(&cfg, &o.connection, store)
	cfg.Store = store
	t := newTrouble(sh.log)
	cfg.OnEvent = t.event
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return err
	}
	m.watch(client)
	stop := o.stats.start(ctx, sh, client, false)
	err = relayUntil(ctx, sh, o, client, store, t)
	stop()
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	return errors.Join(err, client.Close(patience))
}

const (
	// emptyInterval is how often relay --once looks whether the outbox is empty.
	emptyInterval = 100 * time.Millisecond
	// statusInterval is how often --debug prints a line of status.
	statusInterval = 5 * time.Second
)

// relayUntil returns when the relay is to end.
func relayUntil(ctx context.Context, sh *shell, o *relayOptions, client *autopaho.Client, store persist.Store, t *trouble) error {
	empty := time.NewTicker(emptyInterval)
	defer empty.Stop()
	if !o.once {
		empty.Stop()
	}
	status := time.NewTicker(statusInterval)
	defer status.Stop()
	var deadline <-chan time.Time
	if o.timeout > 0 {
		timer := time.NewTimer(o.timeout)
		defer timer.Stop()
		deadline = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			if o.once {
				return interrupted(ctx)
			}
			return nil // the way in which a relay ends
		case <-t.wake:
			if err := client.Err(); err != nil {
				return err
			}
		case <-deadline:
			return &exitError{code: exitStored, text: notEmpty(ctx, store, t)}
		case <-status.C:
			if o.report.debug {
				sh.log.info("%s", statusLine(client.Status(ctx)))
			}
		case <-empty.C:
			done, err := isEmpty(ctx, store)
			switch {
			case err != nil && ctx.Err() == nil:
				return err
			case done && err == nil:
				return nil
			}
		}
	}
}

// isEmpty tells whether no lane holds a message, be it one whose receipt is
// awaited.
func isEmpty(ctx context.Context, store persist.Store) (bool, error) {
	lanes, err := store.Lanes(ctx)
	if err != nil {
		return false, err
	}
	for _, lane := range lanes {
		entries, err := store.ListOutbox(ctx, persist.ListRequest{Lane: lane.Lane, Limit: 1})
		if err != nil || len(entries) > 0 {
			return false, err
		}
	}
	return true, nil
}
