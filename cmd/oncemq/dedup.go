package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/persist"
)

func dedupCommand(sh *shell) *cli.Command {
	return &cli.Command{
		Name:      "dedup",
		Usage:     "look at the processed keys, and forget some",
		UsageText: "oncemq dedup COMMAND [options]",
		Description: `
A group of subscribers remembers the keys (message IDs, unless told otherwise) of what
it has processed. May be used while they work on the same store.

Examples:
  oncemq dedup stats
  oncemq dedup forget --group billing 01a223bf-7c4c-7cbb-af81-ef97c16ed347`,
		Subcommands: []*cli.Command{dedupStatsCommand(sh), dedupForgetCommand(sh)},
	}
}

func dedupStatsCommand(sh *shell) *cli.Command {
	o := new(outboxOptions)
	options := o.options()
	return &cli.Command{
		Name:  "stats",
		Usage: "count the keys of all groups",
		UsageText: `oncemq dedup stats [--store URL] [--json]

Both numbers may include keys whose window or lease has ended and that were not swept
yet.`,
		Description: `
Examples:
  oncemq dedup stats --json`,
		Flags: toFlags(options),
		Action: storeAction(sh, o, func(ctx context.Context, store persist.Store) error {
			s, err := store.Stats(ctx)
			if err != nil {
				return err
			}
			if o.json {
				return writeLine(sh.stdout, struct {
					Completed int64 `json:"completed"`
					InWork    int64 `json:"in_work"`
					Dead      int64 `json:"consumer_dead"`
				}{s.Completed, s.InWork, s.ConsumerDead})
			}
			r := newRows(sh.stdout)
			r.add("processed keys", s.Completed)
			r.add("keys in work", s.InWork)
			r.add("consumer dead letters", s.ConsumerDead)
			_, err = io.WriteString(sh.stdout, r.String())
			return err
		}),
	}
}

func dedupForgetCommand(sh *shell) *cli.Command {
	o := new(outboxOptions)
	var group string
	options := append([]*option{
		{name: "group", set: name(&group), usage: "the `GROUP` that is to forget; must be given"},
	}, o.options()...)
	return &cli.Command{
		Name:  "forget",
		Usage: "forget processed keys, so that their messages are processed again if they come again",
		UsageText: `oncemq dedup forget --group GROUP KEY... [--store URL] [--json]

Keys in work stay. A message that comes again and is older than the group's window is
not processed all the same, but becomes a dead letter.`,
		Description: `
Examples:
  oncemq dedup forget --group billing 01a223bf-7c4c-7cbb-af81-ef97c16ed347`,
		ArgsUsage: "KEY...",
		Flags:     toFlags(options),
		Action: action(sh, func(ctx context.Context, keys []string) error {
			switch {
			case group == "":
				return &usageError{option: "--group", problem: "is missing; name the group that is to forget"}
			case len(keys) == 0:
				return &usageError{problem: "the KEYs to forget are missing; a key is a message ID, unless the group has another kind"}
			}
			return o.look(ctx, sh, func(ctx context.Context, store persist.Store) error {
				n, err := store.Forget(ctx, group, keys)
				if err != nil {
					return err
				}
				if o.json {
					return writeLine(sh.stdout, struct {
						Forgotten int `json:"forgotten"`
					}{n})
				}
				_, err = fmt.Fprintf(sh.stdout, "forgotten %d of %d\n", n, len(keys))
				return err
			})
		}),
	}
}
