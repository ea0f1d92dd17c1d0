package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

func deadShowCommand(sh *shell) *cli.Command {
	o := new(showOptions)
	options := o.options()
	return &cli.Command{
		Name:  "show",
		Usage: "show all of one dead letter",
		UsageText: `oncemq dead show NUMBER [--store URL] [--json] [--output MODE] [--format FORMAT]

A payload that is not UTF-8 is shown in base64. Times are the store's.`,
		Description: `
Examples:
  oncemq dead show 42
  oncemq dead show 42 -o raw > payload`,
		ArgsUsage: "NUMBER",
		Flags:     toFlags(options),
		Action: action(sh, func(ctx context.Context, args []string) error {
			number, err := numberArgument(args)
			if err != nil {
				return err
			}
			show, err := shower(o, showText, showObject, receivedOf)
			if err != nil {
				return err
			}
			return o.look(ctx, sh, func(ctx context.Context, store persist.Store) error {
				l, err := persist.GetDeadLetter(ctx, store, number)
				if errors.Is(err, persist.ErrNotFound) {
					return &exitError{code: exitFailed, text: fmt.Sprintf("there is no dead letter %d", number)}
				}
				if err != nil {
					return err
				}
				return show(sh.stdout, &l)
			})
		}),
	}
}

// numberArgument is the one argument of a command that takes a letter's number.
func numberArgument(args []string) (int64, error) {
	switch len(args) {
	case 0:
		return 0, &usageError{problem: "the NUMBER of a dead letter is missing; oncemq dead list shows them"}
	case 1:
	default:
		return 0, &usageError{problem: fmt.Sprintf("unexpected argument %s; one NUMBER is enough", shown(args[1]))}
	}
	n, err := letterNumber(args[0])
	if err != nil {
		return 0, &usageError{problem: err.Error()}
	}
	return n, nil
}

// receivedOf is a letter's message as sub prints messages.
func receivedOf(l *persist.DeadLetter) *autopaho.Received {
	return &autopaho.Received{Message: l.Message, Group: l.Group, Attempt: l.Attempts, At: l.At}
}

// shownObject is what dead show --json prints.
type shownObject struct {
	letterObject
	OrderingKey   string            `json:"ordering_key,omitempty"`
	Receipt       bool              `json:"receipt,omitempty"`
	Properties    *propertiesObject `json:"properties,omitempty"`
	Payload       *string           `json:"payload,omitempty"`
	PayloadBase64 *string           `json:"payload_base64,omitempty"`
}

func showObject(w io.Writer, l *persist.DeadLetter) error {
	o := shownObject{
		letterObject: newLetterObject(l), OrderingKey: l.Message.OrderingKey, Receipt: l.Message.Receipt,
		Properties: newPropertiesObject(receivedOf(l)),
	}
	o.Payload, o.PayloadBase64 = textOrBase64(l.Message.Payload)
	return writeLine(w, o)
}

func showText(w io.Writer, l *persist.DeadLetter) error {
	t := newRows(w)
	row := rowsOf(t)
	failure := func(name string, f persist.Failure) {
		if f != (persist.Failure{}) {
			row(name, f.Error)
		}
		if !f.At.IsZero() {
			row(name+" at", instant(f.At))
		}
	}
	m := &l.Message
	row("number", l.Number)
	row("side", l.Side)
	row("state", l.State)
	row("at", instant(l.At))
	row("group", l.Group)
	row("dedup key", l.Key)
	if l.Ref != (persist.Ref{}) {
		row("lane, position", fmt.Sprintf("%d, %d", l.Ref.Lane, l.Ref.Position))
	}
	row("attempts", l.Attempts)
	row("reason", l.Reason)
	row("reason code", codeText(l.ReasonCode))
	failure("first error", l.First)
	failure("last error", l.Last)
	messageRows(row, m)
	return showPayload(w, t, m)
}

// printable is data as text if it is UTF-8, else in base64, and says so.
func printable(data []byte) string {
	if text, encoded := textOrBase64(data); text == nil {
		return *encoded + " (base64)"
	} else {
		return *text
	}
}
