package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// pubOptions are the options of pub.
type pubOptions struct {
	connection connectionOptions
	store      storeOptions
	report     reportOptions
	message    messageOptions
	payload    payloadOptions
	timeout    time.Duration
	timeoutSet func() bool // whether it was given
	noWait     bool
	json       bool
}

func (o *pubOptions) options() []*option {
	o.timeout = 30 * time.Second
	o.message.connection = &o.connection
	timeout := &option{
		name: "timeout", category: catDelivery, set: span(&o.timeout), def: "30s",
		usage: "`TIME` to wait for delivery once all is stored; 0 waits for ever. What is not delivered by then stays in " +
			"the store, for oncemq relay or the next pub. If it is given, --json also gives up once nobody has read for that time",
	}
	o.timeoutSet = timeout.IsSet
	options := append(o.message.options(), o.payload.options()...)
	options = append(options, withEnv([]*option{
		timeout,
		{name: "no-wait", category: catDelivery, set: on(&o.noWait), usage: "end when the messages are stored, and leave delivering to oncemq relay or the next pub"},
		{
			name: "json", category: "Output", set: on(&o.json),
			usage: "print an object when a message is stored, and one when it is settled: event (stored, or duplicate if it " +
				"was not since the outbox held one of its ID; delivered, acknowledged, failed, expired, dropped, superseded), id, topic, reason_code, reason",
		},
	})...)
	options = append(options, o.store.options()...)
	options = append(options, o.connection.options(true)...)
	return append(options, o.report.options()...)
}

func pubCommand(sh *shell) *cli.Command {
	o := new(pubOptions)
	options := o.options()
	return &cli.Command{
		Name:      "pub",
		Usage:     "store messages, then deliver them",
		UsageText: "oncemq pub [-h HOST] -t TOPIC (-m TEXT | -f FILE | -l | --ndjson | -s | -n) [options]",
		Description: `
Every message is stored before it is sent, and stays stored until the broker has
acknowledged it. What a run that ended early has left in the store is delivered
first by the next one, and counted there.

Examples:
  oncemq pub -t sensors/1 -m 21.5
  oncemq pub -h broker.example -t logs -l < app.log
  tail -F app.log | oncemq pub -t logs -l --timeout 0
  oncemq sub -t 'plant/#' --json | oncemq pub -h other.example --ndjson
  oncemq pub -t orders -f order.json --content-type application/json --receipt
  oncemq pub -t alarms -m fire -q 2 -H severity=high --expiry 1h
  oncemq pub -t door/1/state -m open -r --supersede
  oncemq pub -L mqtts://broker.example/alarms -m fire --no-wait

Traces: if OTEL_EXPORTER_OTLP_ENDPOINT is set, such as to http://localhost:4318, spans
are sent there by OTLP over HTTP; other variables of OpenTelemetry count as well.

Exit codes: 0 all delivered or superseded, 1 a message failed, expired or was
dropped from a full outbox, 2 usage, 3 stored and not delivered in time, 4 refused
by the broker, 5 the store cannot be used, 130 and 143 ended by a signal before all
input was read.`,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return pub(ctx, sh, o) }),
	}
}

// readerPatience is how long the reader of --json may read nothing: as long as delivery
// may take, but who has said nothing of that may page through it.
func (o *pubOptions) readerPatience() time.Duration {
	if o.timeout == 0 || !o.timeoutSet() {
		return 0
	}
	return max(o.timeout, closePatience)
}

// pub checks everything that can be checked before anything is stored.
func pub(ctx context.Context, sh *shell, o *pubOptions) error {
	if err := o.payload.check(); err != nil {
		return err
	}
	switch {
	case o.message.m.ID != "" && (o.payload.many() || o.payload.repeat > 1):
		return &usageError{option: "--message-id", problem: "names one message; it cannot stand beside --stdin-line, --ndjson or --repeat"}
	case o.payload.ndjson && o.message.m.QoS == 0:
		return &usageError{option: "--qos", problem: "0 cannot stand beside --ndjson, which keeps what it reads until it is acknowledged; use 1 or 2"}
	case o.noWait && o.store.inMemory():
		return &usageError{option: "--no-wait", problem: "needs a store that outlives this process, not memory:"}
	}
	cfg, urlTopic, err := o.connection.config(ctx, sh)
	if err != nil {
		return err
	}
	template, err := o.message.template(urlTopic, &cfg.Policies, !o.payload.ndjson)
	if err != nil {
		return err
	}
	source, err := o.payload.feed(ctx, sh.stdin)
	if err != nil {
		return err
	}
	store, err := o.store.open(ctx, sh)
	if err != nil {
		return err
	}
	defer closeStore(sh, store)
	relayIdentity(&cfg, &o.connection, store)
	cfg.Store, cfg.Relay.Off = store, o.noWait
	sh.trace(ctx, &cfg)
	p := &publication{sh: sh, o: o, store: store, template: template, notBefore: o.message.notBefore, trouble: newTrouble(sh.log)}
	return p.run(ctx, cfg, source)
}

// relayIdentity gives the relay what the options say of client ID and will.
func relayIdentity(cfg *autopaho.Config, o *connectionOptions, store persist.Store) {
	cfg.SessionExpiry = o.sessionExpiry.config()
	cfg.Relay.Will = cfg.Will
	cfg.Will = nil
	switch {
	case o.clientID != "":
		cfg.Relay.ClientID = o.clientID
	case o.idPrefix != "":
		// The same wherever the store is drained.
		cfg.Relay.ClientID = o.idPrefix + store.Identity()[:12]
	}
}

// closePatience bounds how long a closing client waits for the broker's answers
// to what is in flight. With what comes after that, a command ends within 5 s.
const closePatience = 3 * time.Second
