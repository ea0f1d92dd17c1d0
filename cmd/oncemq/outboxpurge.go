package main

import (
	"context"
	"math"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/persist"
)

// catMessages are options that choose messages.
const catMessages = "Which messages (all that are given must agree)"

// purgeOptions are the options of outbox purge.
type purgeOptions struct {
	outboxOptions
	lane  int
	state string
	limit int
	all   bool
}

func outboxPurgeCommand(sh *shell) *cli.Command {
	o := &purgeOptions{lane: -1}
	options := []*option{
		{name: "lane", category: catMessages, set: number(&o.lane, 0, math.MaxInt32), def: "all", usage: "the `NUMBER` of the lane to purge"},
		{
			name: "state", category: catMessages, set: oneOf(&o.state, "pending", "delivered"), choices: []string{"pending", "delivered"}, def: "pending and delivered",
			usage: "delete messages in this `STATE`: pending, or delivered (the broker has it, a receipt is awaited)",
		},
		{name: "limit", category: catMessages, set: number(&o.limit, 1, math.MaxInt32), def: "none", usage: "most messages to delete, a `NUMBER`"},
		{name: "all", category: catMessages, set: on(&o.all), usage: "all of them"},
	}
	options = append(options, o.options()...)
	return &cli.Command{
		Name:  "purge",
		Usage: "delete messages that are not delivered, oldest first",
		UsageText: `oncemq outbox purge (--state STATE | --lane NUMBER | --limit NUMBER | --all) [--store URL] [--json]

They are lost. oncemq outbox list shows what the same options choose. One that a relay
has handed to the broker already may be delivered all the same; what failed is among
the dead letters: oncemq dead purge.`,
		Description: `
Examples:
  oncemq outbox purge --state delivered
  oncemq outbox purge --lane 0 --limit 1`,
		Flags: toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error {
			chosen := o.lane >= 0 || o.state != "" || o.limit > 0
			switch {
			case !o.all && !chosen:
				return &usageError{problem: "nothing says which messages to delete; give one of --state, --lane, --limit, or --all"}
			case o.all && chosen:
				return &usageError{option: "--all", problem: "cannot stand beside an option that chooses messages"}
			}
			return o.look(ctx, sh, func(ctx context.Context, store persist.Store) error {
				n, err := purgeOutbox(ctx, store, o)
				if err != nil {
					return err
				}
				return printPurged(sh.stdout, o.json, n)
			})
		}),
	}
}

func purgeOutbox(ctx context.Context, store persist.Store, o *purgeOptions) (purged int, err error) {
	lanes, err := store.Lanes(ctx)
	if err != nil {
		return 0, err
	}
	if o.lane >= len(lanes) {
		return 0, noLane(o.lane, len(lanes))
	}
	left := o.limit
	if left == 0 {
		left = math.MaxInt
	}
	states := []persist.State{persist.StatePending, persist.StateDelivered}
	switch o.state {
	case "pending":
		states = states[:1]
	case "delivered":
		states = states[1:]
	}
	for _, lane := range lanes {
		if o.lane >= 0 && lane.Lane != o.lane {
			continue
		}
		for left > 0 {
			most := min(left, listPage)
			n, err := store.PurgeOutbox(ctx, persist.ListRequest{Lane: lane.Lane, Limit: most, States: states})
			purged += n
			left -= n
			if err != nil {
				return purged, err
			}
			if n < most {
				break
			}
		}
	}
	return purged, nil
}
