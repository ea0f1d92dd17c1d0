package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/persist"
)

// outboxRetryCommand is dead retry for what has failed here, on the way out.
func outboxRetryCommand(sh *shell) *cli.Command {
	o := new(retryOptions)
	options := append(o.filterOptions("all"), o.changes()...)
	options = append(options, o.options()...)
	options = without(options, "side", "group")
	o.side = "outbox"
	return &cli.Command{
		Name:  "retry",
		Usage: "put what failed or expired back into the outbox, oldest first",
		UsageText: `oncemq outbox retry [--store URL] [--number NUMBER] [--topic FILTER] [--to-topic TOPIC] [--dry-run] [--json]

The same as oncemq dead retry --side outbox: messages that the broker refused for good,
or that expired, are sent again by a relay, under their old message IDs. The numbers are
those of oncemq dead list --side outbox.`,
		Description: `
Examples:
  oncemq outbox retry --dry-run
  oncemq outbox retry --reason-code 0x87 --topic 'orders/#'`,
		Flags: toFlags(options),
		Action: deadAction(sh, &o.deadOptions, func(ctx context.Context, store persist.Store) error {
			return retryDead(ctx, sh.stdout, store, o)
		}),
	}
}
