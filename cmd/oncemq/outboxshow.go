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

func outboxShowCommand(sh *shell) *cli.Command {
	o := new(showOptions)
	options := o.options()
	return &cli.Command{
		Name:  "show",
		Usage: "show all of one message",
		UsageText: `oncemq outbox show ID [--store URL] [--json] [--output MODE] [--format FORMAT]

Messages of one ID, which a message that is not idempotent may share, are shown one
after another. What failed is among the dead letters: oncemq dead show.`,
		Description: `
Examples:
  oncemq outbox show 01a223bf-7c4c-7cbb-af81-ef97c16ed347
  oncemq outbox show 01a223bf-7c4c-7cbb-af81-ef97c16ed347 -o raw > payload`,
		ArgsUsage: "ID",
		Flags:     toFlags(options),
		Action: action(sh, func(ctx context.Context, args []string) error {
			switch len(args) {
			case 0:
				return &usageError{problem: "the ID of a message is missing; oncemq outbox list shows them"}
			case 1:
			default:
				return &usageError{problem: fmt.Sprintf("unexpected argument %s; one ID is enough", shown(args[1]))}
			}
			id := args[0]
			show, err := shower(o, showEntryText, showEntryObject, func(e *persist.Entry) *autopaho.Received {
				return &autopaho.Received{Message: e.Message, Attempt: e.Attempts, At: e.EnqueuedAt}
			})
			if err != nil {
				return err
			}
			return o.look(ctx, sh, func(ctx context.Context, store persist.Store) error {
				entries, err := store.GetOutbox(ctx, id)
				if errors.Is(err, persist.ErrNotFound) {
					return &exitError{code: exitFailed, text: fmt.Sprintf("there is no message %s in the outbox", shown(id))}
				}
				if err != nil {
					return err
				}
				for i := range entries {
					if err := show(sh.stdout, &entries[i]); err != nil {
						return err
					}
				}
				return nil
			})
		}),
	}
}

// shownEntry is what outbox show --json prints.
type shownEntry struct {
	entryObject
	Receipt       bool              `json:"receipt,omitempty"`
	Properties    *propertiesObject `json:"properties,omitempty"`
	Payload       *string           `json:"payload,omitempty"`
	PayloadBase64 *string           `json:"payload_base64,omitempty"`
}

func showEntryObject(w io.Writer, e *persist.Entry) error {
	o := shownEntry{
		entryObject: newEntryObject(e.Ref, &e.Message, e.State, e.Attempts, e.EnqueuedAt), Receipt: e.Message.Receipt,
		Properties: newPropertiesObject(&autopaho.Received{Message: e.Message}),
	}
	o.Reason = e.LastError
	o.Payload, o.PayloadBase64 = textOrBase64(e.Message.Payload)
	return writeLine(w, o)
}

func showEntryText(w io.Writer, e *persist.Entry) error {
	t := newRows(w)
	row := rowsOf(t)
	row("lane, position", fmt.Sprintf("%d, %d", e.Lane, e.Position))
	row("state", e.State)
	row("since", instant(e.EnqueuedAt))
	row("attempts", e.Attempts)
	row("last error", e.LastError)
	messageRows(row, &e.Message)
	return showPayload(w, t, &e.Message)
}
