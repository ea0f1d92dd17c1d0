package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/fault"
)

func chaosCommand(sh *shell) *cli.Command {
	return &cli.Command{
		Name:      "chaos",
		Usage:     "see messages survive a failing network and broker",
		UsageText: "oncemq chaos COMMAND [options]",
		Description: `
A publisher with an outbox and a group of two subscribers work through scenarios of
faults: a network that is cut, slow or loses packets, a broker that forgets. Then it
is counted what was lost and what was doubled. The faults strike through a proxy that
only they connect to: nobody else's connections are touched.

Examples:
  oncemq chaos list
  oncemq chaos run cut reset
  oncemq chaos run all --mosquitto --store postgres://app@localhost/app
  oncemq chaos run session-forgotten --sabotage receipts`,
		Subcommands: []*cli.Command{chaosListCommand(sh), chaosRunCommand(sh)},
	}
}

// scenarioObject is what chaos list --json prints.
type scenarioObject struct {
	Name     string  `json:"name"`
	Summary  string  `json:"summary"`
	Seconds  float64 `json:"seconds"`
	QoS      int     `json:"qos"`
	Receipts bool    `json:"receipts"`
	Restarts bool    `json:"restarts"`
}

func chaosListCommand(sh *shell) *cli.Command {
	var asJSON bool
	options := []*option{{name: "json", set: on(&asJSON), usage: "print an object a line"}}
	return &cli.Command{
		Name:      "list",
		Usage:     "list the scenarios",
		UsageText: "oncemq chaos list [--json]",
		Description: `
Examples:
  oncemq chaos list`,
		Flags: toFlags(options),
		Action: action(sh, func(context.Context, []string) error {
			if !asJSON {
				return listScenarios(sh)
			}
			for _, s := range fault.Scenarios() {
				if err := writeLine(sh.stdout, scenarioObject{
					s.Name, s.Summary, s.Lasts.Seconds(), int(max(1, s.QoS)), s.Forgets, s.Restarts,
				}); err != nil {
					return outputError(err)
				}
			}
			return nil
		}),
	}
}

// listScenarios writes a line for each scenario; on a narrow terminal the summary
// has lines of its own.
func listScenarios(sh *shell) error {
	var b strings.Builder
	if is, width, _ := terminal(sh.stdout); is && width > 0 && width < 100 {
		for _, s := range fault.Scenarios() {
			b.WriteString(s.Name + "\n" + wrap(s.Summary, 2, width))
		}
	} else {
		table := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
		for _, s := range fault.Scenarios() {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", s.Name, s.Summary) // into memory
		}
		_ = table.Flush() // as above
	}
	_, err := fmt.Fprint(sh.stdout, b.String())
	return written(err)
}

// scenariosOf finds the scenarios that were asked for by name.
func scenariosOf(names []string) (chosen []fault.Scenario, all bool, err error) {
	known := []string{"all"}
	for _, s := range fault.Scenarios() {
		known = append(known, s.Name)
	}
	seen := make(map[string]bool)
	for _, name := range names {
		if name == "all" {
			if len(names) > 1 {
				return nil, false, &usageError{problem: "all stands alone; there are other names beside it"}
			}
			return fault.Scenarios(), true, nil
		}
		s, err := fault.Find(name)
		if err != nil {
			problem := fmt.Sprintf("there is no scenario %s", shown(name))
			if near := nearest(name, known); near != "" {
				problem += fmt.Sprintf("; did you mean %s?", near)
			} else {
				problem += "; oncemq chaos list has them"
			}
			return nil, false, &usageError{problem: problem}
		}
		if !seen[name] {
			seen[name] = true
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return nil, false, &usageError{problem: "no scenario is named; name some, or all; oncemq chaos list has them"}
	}
	return chosen, false, nil
}
