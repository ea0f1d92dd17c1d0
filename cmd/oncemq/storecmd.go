package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/doctor"
	"github.com/oncemq/oncemq/persist"
)

func storeCommand(sh *shell) *cli.Command {
	return &cli.Command{
		Name:      "store",
		Usage:     "create, upgrade and check a store",
		UsageText: "oncemq store COMMAND [options]",
		Description: `
A store is created and upgraded when it is opened, if the user has the right to.
Where only one role has it, let that one run store migrate.

Examples:
  oncemq store status --store postgres://app@db.example/app
  oncemq store check --json`,
		Subcommands: []*cli.Command{storeMigrateCommand(sh), storeStatusCommand(sh), storeCheckCommand(sh)},
	}
}

// maintain runs what looks after a store, without opening it first.
func maintain(sh *shell, o *outboxOptions, run func(context.Context, persist.Maintainer, *url.URL) error) cli.ActionFunc {
	return action(sh, func(ctx context.Context, _ []string) error {
		raw, err := o.store.raw(sh)
		if err != nil {
			return err
		}
		driver, u, err := maintainer(raw)
		if err != nil {
			return err
		}
		return storeError(ctx, run(ctx, driver, u))
	})
}

// maintainer is the driver of a URL.
func maintainer(raw string) (persist.Maintainer, *url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, nil, &usageError{option: "--store", problem: "store URL cannot be parsed"}
	}
	for _, d := range drivers() {
		if !slices.Contains(d.Schemes(), u.Scheme) {
			continue
		}
		if m, ok := d.(persist.Maintainer); ok {
			return m, u, nil
		}
		return nil, nil, &usageError{option: "--store", problem: "a store in memory ends with the process; there is nothing to look after"}
	}
	_, err = persist.Open(context.Background(), raw, drivers()...) // says which schemes there are
	return nil, nil, &usageError{option: "--store", problem: oneLine(err)}
}

func storeMigrateCommand(sh *shell) *cli.Command {
	o := new(outboxOptions)
	options := o.options()
	return &cli.Command{
		Name:      "migrate",
		Usage:     "bring a store to this version, and create it if need be",
		UsageText: "oncemq store migrate [--store URL] [--json]",
		Description: `
Examples:
  oncemq store migrate --store postgres://owner@db.example/app`,
		Flags: toFlags(options),
		Action: maintain(sh, o, func(ctx context.Context, d persist.Maintainer, u *url.URL) error {
			from, to, err := d.Migrate(ctx, u)
			if err != nil {
				return err
			}
			if o.json {
				return writeLine(sh.stdout, struct {
					From int `json:"from"`
					To   int `json:"to"`
				}{from, to})
			}
			text := fmt.Sprintf("migrated from version %d to %d\n", from, to)
			switch from {
			case to:
				text = fmt.Sprintf("is at version %d already\n", to)
			case 0:
				text = fmt.Sprintf("created at version %d\n", to)
			}
			_, err = io.WriteString(sh.stdout, text)
			return err
		}),
	}
}

func storeStatusCommand(sh *shell) *cli.Command {
	o := new(outboxOptions)
	options := o.options()
	return &cli.Command{
		Name:      "status",
		Usage:     "say what a store is and what it survives; changes nothing",
		UsageText: "oncemq store status [--store URL] [--json]",
		Description: `
Examples:
  oncemq store status --store postgres://app@db.example/app`,
		Flags: toFlags(options),
		Action: maintain(sh, o, func(ctx context.Context, d persist.Maintainer, u *url.URL) error {
			r, err := d.Check(ctx, u)
			if err != nil {
				return err
			}
			if o.json {
				return writeLine(sh.stdout, newReportObject(&r))
			}
			return writeReport(sh.stdout, &r)
		}),
	}
}

func storeCheckCommand(sh *shell) *cli.Command {
	o := new(outboxOptions)
	options := o.options()
	return &cli.Command{
		Name:  "check",
		Usage: "tell whether a store can be used; changes nothing",
		UsageText: `oncemq store check [--store URL] [--json]

Ends with exit code 5 if there is no store, if it has another version than this
program needs, or if this user lacks rights in it.`,
		Description: `
Examples:
  oncemq store check --json && echo good`,
		Flags: toFlags(options),
		Action: maintain(sh, o, func(ctx context.Context, d persist.Maintainer, u *url.URL) error {
			r, err := d.Check(ctx, u)
			if err != nil {
				return err
			}
			faults := r.Missing
			if r.Schema == r.Latest && len(faults) == 0 {
				faults = append(faults, clockFault(ctx, d, u)...)
			}
			switch {
			case r.Schema == 0:
				faults = []string{"there is no store; oncemq store migrate creates it"}
			case r.Schema < r.Latest:
				faults = []string{fmt.Sprintf("it has version %d, and this program needs %d; oncemq store migrate upgrades it", r.Schema, r.Latest)}
			case r.Schema > r.Latest:
				faults = []string{fmt.Sprintf("it has version %d, and this program knows versions up to %d; use a newer one", r.Schema, r.Latest)}
			case len(r.Missing) > 0:
				faults = []string{"this user lacks " + strings.Join(r.Missing, ", ")}
			}
			if o.json {
				object := newReportObject(&r)
				object.Faults = faults
				if err := writeLine(sh.stdout, object); err != nil {
					return err
				}
			} else if len(faults) == 0 {
				if _, err := fmt.Fprintln(sh.stdout, "ok"); err != nil {
					return err
				}
			}
			if len(faults) > 0 {
				return &exitError{code: exitStore, text: "--store: " + strings.Join(faults, "; ")}
			}
			return nil
		}),
	}
}

// clockFault tells that the store's clock and ours are far apart. Nothing fails by
// it but what compares times of this machine with those of the store.
func clockFault(ctx context.Context, d persist.Maintainer, u *url.URL) []string {
	store, err := d.Open(ctx, u)
	if err != nil {
		return []string{oneLine(err)}
	}
	offset, _, err := doctor.ClockOffset(ctx, store)
	if end := store.Close(context.WithoutCancel(ctx)); err == nil {
		err = end
	}
	if err != nil {
		return []string{oneLine(err)}
	}
	if apart := offset.Round(time.Second); apart.Abs() > doctor.MostClockSkew {
		return []string{fmt.Sprintf("its clock and this machine's are %s apart; set both by NTP", apart.Abs())}
	}
	return nil
}

// reportObject is what store status --json prints.
type reportObject struct {
	Server     string `json:"server"`
	Schema     int    `json:"schema"`
	Latest     int    `json:"latest"`
	Durability string `json:"durability"`
	limitsObject
	Missing []string `json:"missing,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	Faults  []string `json:"faults,omitempty"`
}

func newReportObject(r *persist.Report) reportObject {
	return reportObject{
		Server: r.Server, Schema: r.Schema, Latest: r.Latest, Durability: r.Durability, limitsObject: newLimitsObject(r.Limits),
		Missing: r.Missing, Notes: r.Notes,
	}
}

func writeReport(w io.Writer, r *persist.Report) error {
	t := newRows(w)
	version := fmt.Sprintf("%d, the newest that this program knows", r.Schema)
	switch {
	case r.Schema == 0:
		version = "there is no store yet"
	case r.Schema < r.Latest:
		version = fmt.Sprintf("%d, older than %d, which this program needs", r.Schema, r.Latest)
	case r.Schema > r.Latest:
		version = fmt.Sprintf("%d, newer than %d, the last that this program knows", r.Schema, r.Latest)
	}
	t.add("server", r.Server)
	t.add("version", version)
	t.add("durability", r.Durability)
	t.add("limits of the outbox", r.Limits)
	for _, right := range r.Missing {
		t.add("missing right", right)
	}
	for _, note := range r.Notes {
		t.add("note", note)
	}
	_, err := io.WriteString(w, t.String())
	return err
}
