package main

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

func deadListCommand(sh *shell) *cli.Command {
	o := &deadOptions{limit: 100}
	options := append(o.filterOptions("100"), o.options()...)
	return &cli.Command{
		Name:      "list",
		Usage:     "list dead letters, oldest first, without their payloads",
		UsageText: "oncemq dead list [--store URL] [--side SIDE] [--group NAME] [--topic FILTER] [--json]",
		Description: `
Examples:
  oncemq dead list --side consumer --group billing
  oncemq dead list --reason-code 0x87 --older-than 24h --json`,
		Flags: toFlags(options),
		Action: deadAction(sh, o, func(ctx context.Context, store persist.Store) error {
			return listDead(ctx, sh.stdout, store, o)
		}),
	}
}

func listDead(ctx context.Context, w io.Writer, store persist.Store, o *deadOptions) error {
	p := letterPrinter{w: w, json: o.json, table: newGrid(w,
		"NUMBER", "SIDE", "STATE", "AT", "GROUP", "ATTEMPTS", "BYTES", "CODE", "ID", "TOPIC", "REASON")}
	err := autopaho.EachDeadLetter(ctx, store, o.filter, func(l *persist.DeadLetter) (bool, error) {
		err := p.print(l)
		return o.limit == 0 || p.rows < o.limit, err
	})
	if err != nil {
		return err
	}
	return p.table.flush()
}

// letterPrinter prints letters as a table or as JSON.
type letterPrinter struct {
	w     io.Writer
	json  bool
	table *grid
	rows  int
}

func (p *letterPrinter) print(l *persist.DeadLetter) error {
	p.rows++
	if p.json {
		return writeLine(p.w, newLetterObject(l))
	}
	return p.table.add(l.Number, l.Side, l.State, instant(l.At), orDash(l.Group), l.Attempts, len(l.Message.Payload),
		codeText(l.ReasonCode), orDash(l.Message.ID), orDash(l.Message.Topic), l.Reason)
}

// orDash is a cell of a table that may be empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
