package main

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/doctor"
)

// doctorOptions are those of doctor.
type doctorOptions struct {
	connection connectionOptions
	store      storeOptions
	report     reportOptions

	noBroker, noStore, quick, json bool
	restart, topicPrefix           string
}

func (o *doctorOptions) options() []*option {
	options := withEnv([]*option{
		{name: "no-broker", set: on(&o.noBroker), usage: "look at the store only"},
		{name: "no-store", set: on(&o.noStore), usage: "look at the broker only"},
		{
			name: "restart-command", set: name(&o.restart),
			usage: "shell `COMMAND` that restarts the broker and returns when that is done, such as \"systemctl restart mosquitto\"; what the broker " +
				"keeps is looked at then. All its clients are disconnected",
		},
		{name: "quick", set: on(&o.quick), usage: "do not wait for messages and sessions to expire, which takes two seconds"},
		{
			name: "topic-prefix", set: name(&o.topicPrefix), def: "oncemq/doctor",
			usage: "`TOPIC` below which messages are published and subscribed to",
		},
		{name: "json", set: on(&o.json), usage: "print one JSON object"},
	}, "restart-command", "quick")
	for _, c := range o.connection.several("receive-maximum", "max-packet-size") {
		if c.name == "session-expiry" {
			c.def, c.usage = "24h", "`TIME` for which the broker is asked to keep sessions; -1 is for ever"
		}
		options = append(options, c)
	}
	options = append(options, o.store.options()...)
	return append(options, o.report.options()...)
}

func doctorCommand(sh *shell) *cli.Command {
	o := new(doctorOptions)
	options := o.options()
	return &cli.Command{
		Name:      "doctor",
		Usage:     "say what a broker and a store are good for, and which promises hold",
		UsageText: "oncemq doctor [-L URL] [--store URL] [options]",
		Description: `
Connects to the broker and to the store, says what they offer and what that
means, and tries out what the promises rest on: whether a session, queued and
retained messages, a group and an exchange of QoS 2 outlive a lost connection,
and with --restart-command a restart of the broker. It takes about three seconds.
It uses client IDs and topics of its own, and leaves nothing behind. It changes
nothing in the store, and does not create it.

The exit code is 0 if all is fine, 1 if something weakens a promise (warn, bad),
4 if the broker cannot be used, by MQTT 5 or at all, 5 if the store cannot be used
(4 if neither can).

Examples:
  oncemq doctor -L mqtts://broker --store postgres://app@db/app
  oncemq doctor --no-store --restart-command 'systemctl restart mosquitto'
  oncemq doctor --no-broker --store sqlite:///var/lib/app/outbox.db --json`,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return o.run(ctx, sh) }),
	}
}

func (o *doctorOptions) run(ctx context.Context, sh *shell) error {
	if o.noBroker && o.noStore {
		return &usageError{option: "--no-broker", problem: "cannot stand beside --no-store; nothing would be left to look at"}
	}
	cfg := doctor.Config{TopicPrefix: o.topicPrefix, IDPrefix: o.connection.idPrefix, Quick: o.quick}
	if !o.noBroker {
		var err error
		if cfg.Broker, _, err = o.connection.config(ctx, sh); err != nil {
			return err
		}
		cfg.Broker.SessionExpiry = o.connection.sessionExpiry.config()
	}
	if !o.noStore {
		raw, err := o.store.raw(sh)
		if err != nil {
			return err
		}
		cfg.Store, cfg.Drivers = raw, drivers()
	}
	if o.restart != "" {
		if o.noBroker {
			return &usageError{option: "--restart-command", problem: "cannot stand beside --no-broker"}
		}
		cfg.Restart = func(ctx context.Context) error { return shellCommand(ctx, sh, o.restart) }
	}
	report, err := doctor.Run(ctx, cfg)
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case err != nil:
		return storeError(ctx, err)
	}
	if o.json {
		err = writeLine(sh.stdout, report)
	} else {
		err = writeDoctor(sh.stdout, &report)
	}
	if err != nil {
		return &exitError{code: exitFailed, text: "cannot write the report", err: err}
	}
	// The report has said why.
	switch {
	case report.BrokerErr != nil:
		return &exitError{code: exitRefused}
	case report.StoreErr != nil:
		return &exitError{code: exitStore}
	case report.Worst() == doctor.Warn || report.Worst() == doctor.Bad:
		return &exitError{code: exitFailed}
	}
	return nil
}

// shellCommand runs a command of the user's; what it prints goes to stderr.
func shellCommand(ctx context.Context, sh *shell, command string) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command) //nolint:gosec // it is what the user asks for
	cmd.Stdout, cmd.Stderr = sh.stderr, sh.stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", shown(command), err)
	}
	return nil
}
