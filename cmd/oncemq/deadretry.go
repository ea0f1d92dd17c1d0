package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// retryOptions are the options of dead retry.
type retryOptions struct {
	deadOptions
	toTopic string
	set     []autopaho.UserProperty
	remove  []string
	dryRun  bool
}

const catChange = "Changes"

func deadRetryCommand(sh *shell) *cli.Command {
	o := new(retryOptions)
	options := append(o.filterOptions("all"), o.changes()...)
	options = append(options, o.options()...)
	return &cli.Command{
		Name:  "retry",
		Usage: "put dead letters back into the outbox, oldest first",
		UsageText: `oncemq dead retry [--store URL] [--number NUMBER] [--topic FILTER] [--to-topic TOPIC] [--dry-run] [--json]

A relay sends them, under their old message IDs. The group that gave a message up
processes it once more; for other groups it is a duplicate, or too old. A letter that
cannot be sent is refused in a line, and stays; the exit code is 1 then.`,
		Description: `
Examples:
  oncemq dead retry --number 42 --set-property tenant=a --dry-run
  oncemq dead retry --topic 'orders/#' --to-topic orders/second-try`,
		Flags: toFlags(options),
		Action: deadAction(sh, &o.deadOptions, func(ctx context.Context, store persist.Store) error {
			return retryDead(ctx, sh.stdout, store, o)
		}),
	}
}

// changes are the options that change messages on their way.
func (o *retryOptions) changes() []*option {
	return []*option{
		{name: "to-topic", category: catChange, set: topic(&o.toTopic), usage: "send the messages to this `TOPIC`"},
		{
			name: "set-property", category: catChange, many: true, set: userProperty(&o.set),
			usage: "set a user property, `NAME=VALUE`, in place of those of that name; may be given several times",
		},
		{name: "remove-property", category: catChange, many: true, set: propertyName(&o.remove), usage: "remove the user properties of a `NAME`; may be given several times"},
		{name: "dry-run", category: catChange, set: on(&o.dryRun), usage: "say what would be done, and do nothing"},
	}
}

// propertyName appends the name of a user property.
func propertyName(dst *[]string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("is empty; name a user property")
		}
		if err := qos.ValidateString("name", s); err != nil {
			return bare(err)
		}
		*dst = append(*dst, s)
		return nil
	}
}

// retriedObject is what dead retry --json prints for a letter.
type retriedObject struct {
	Number int64 `json:"number"`
	// Outcome is retried, duplicate, refused or would-retry.
	Outcome  string `json:"outcome"`
	ID       string `json:"id,omitempty"`
	Topic    string `json:"topic,omitempty"`
	Lane     *int   `json:"lane,omitempty"`
	Position int64  `json:"position,omitempty"`
	Error    string `json:"error,omitempty"`
}

func retryDead(ctx context.Context, w io.Writer, store persist.Store, o *retryOptions) error {
	refused, total := 0, 0
	seen := make(map[int64]bool)
	moved, err := autopaho.RetryDeadLetters(ctx, store, autopaho.DeadLetterRetry{
		Filter: o.filter, Limit: o.limit, Topic: o.toTopic, SetProperties: o.set, RemoveProperties: o.remove, DryRun: o.dryRun,
		Report: func(r autopaho.RetriedLetter) error {
			total++
			seen[r.Number] = true
			if r.Err != nil {
				refused++
			}
			return writeRetried(w, o, &r)
		},
	})
	switch {
	case errors.Is(err, persist.ErrOutboxFull):
		return &exitError{code: exitFailed, text: fmt.Sprintf("the outbox is full: %d letters were moved, the others stay; let a relay drain it", moved)}
	case errors.Is(err, autopaho.ErrConfig):
		return &usageError{problem: oneLine(err)}
	case err != nil:
		return err
	case refused > 0:
		return &exitError{code: exitFailed, text: fmt.Sprintf("%d of %d letters were refused, and stay", refused, total)}
	}
	return o.missing(seen)
}

func writeRetried(w io.Writer, o *retryOptions, r *autopaho.RetriedLetter) error {
	out := retriedObject{Number: r.Number, Outcome: "retried", ID: r.Message.ID, Topic: r.Message.Topic}
	switch {
	case r.Err != nil:
		out.Outcome, out.Error = "refused", oneLine(r.Err)
	case o.dryRun:
		out.Outcome = "would-retry"
	case r.Place.Duplicate:
		out.Outcome = "duplicate"
	}
	if r.Place.Position > 0 {
		out.Lane, out.Position = &r.Place.Lane, r.Place.Position
	}
	if o.json {
		return writeLine(w, out)
	}
	var err error
	switch out.Outcome {
	case "refused":
		_, err = fmt.Fprintf(w, "%d refused: %s\n", out.Number, visible(out.Error))
	case "would-retry":
		_, err = fmt.Fprintf(w, "%d would be sent to %s\n", out.Number, visible(out.Topic))
	case "duplicate":
		_, err = fmt.Fprintf(w, "%d is in the outbox already; the letter is gone\n", out.Number)
	default:
		_, err = fmt.Fprintf(w, "%d goes to %s\n", out.Number, visible(out.Topic))
	}
	return err
}
