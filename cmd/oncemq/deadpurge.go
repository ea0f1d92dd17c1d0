package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

func deadPurgeCommand(sh *shell) *cli.Command {
	o := new(deadOptions)
	all := false
	options := append(o.filterOptions("all"), &option{name: "all", category: catFilter, set: on(&all), usage: "all of them"})
	options = append(options, o.options()...)
	return &cli.Command{
		Name:  "purge",
		Usage: "delete dead letters, oldest first",
		UsageText: `oncemq dead purge (--number NUMBER | --older-than TIME | ... | --all) [--store URL] [--json]

Their messages are lost. oncemq dead list shows what the same options choose.`,
		Description: `
Examples:
  oncemq dead purge --older-than 720h
  oncemq dead purge --side outbox --reason-code 0x87`,
		Flags: toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error {
			switch {
			case !all && !o.chosen():
				return &usageError{problem: "nothing says which letters to delete; give one of --side, --group, --topic, --reason-code, --number, --older-than, or --all"}
			case all && o.chosen():
				return &usageError{option: "--all", problem: "cannot stand beside an option that chooses letters"}
			}
			if err := o.check(); err != nil {
				return err
			}
			return o.look(ctx, sh, func(ctx context.Context, store persist.Store) error {
				n, err := autopaho.PurgeDeadLetters(ctx, store, o.filter, o.limit)
				if err != nil {
					return err
				}
				return printPurged(sh.stdout, o.json, n)
			})
		}),
	}
}

// printPurged says how many were deleted.
func printPurged(w io.Writer, asJSON bool, n int) error {
	if asJSON {
		return writeLine(w, struct {
			Purged int `json:"purged"`
		}{n})
	}
	_, err := fmt.Fprintf(w, "purged %d\n", n)
	return err
}
