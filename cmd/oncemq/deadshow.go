package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// showOptions are the options of dead show.
type showOptions struct {
	outboxOptions
	format, mode string
}

func deadShowCommand(sh *shell) *cli.Command {
	o := new(showOptions)
	options := append([]*option{
		{name: "format", also: []string{"F"}, category: catOutput, set: name(&o.format), usage: "print the message by a `FORMAT`, as oncemq sub does"},
		{
			name: "output", also: []string{"o"}, category: catOutput, set: oneOf(&o.mode, "text", "json", "raw"), def: "text",
			usage: "`MODE`: text, json (as --json), or raw, which is the payload alone",
		},
	}, o.options()...)
	return &cli.Command{
		Name:  "show",
		Usage: "show all of one dead letter",
		UsageText: `oncemq dead show NUMBER [--store URL] [--json] [--output MODE] [--format FORMAT]

A payload that is not UTF-8 is shown in base64. Times are the store's.`,
		ArgsUsage: "NUMBER",
		Flags:     toFlags(options),
		Action: func(c *cli.Context) error {
			number, err := numberArgument(c)
			if err != nil {
				return err
			}
			show, err := o.shower()
			if err != nil {
				return err
			}
			return lookAction(sh, &o.outboxOptions, options, func(ctx context.Context, store persist.Store) error {
				l, err := persist.GetDeadLetter(ctx, store, number)
				if errors.Is(err, persist.ErrNotFound) {
					return &exitError{code: exitFailed, text: fmt.Sprintf("there is no dead letter %d", number)}
				}
				if err != nil {
					return err
				}
				return show(sh.stdout, &l)
			})(c)
		},
	}
}

// numberArgument is the one argument of a command that takes a letter's number.
func numberArgument(c *cli.Context) (int64, error) {
	switch c.Args().Len() {
	case 0:
		return 0, &usageError{problem: "the NUMBER of a dead letter is missing; oncemq dead list shows them"}
	case 1:
	default:
		return 0, &usageError{problem: fmt.Sprintf("unexpected argument %s; one NUMBER is enough", shown(c.Args().Get(1)))}
	}
	n, err := letterNumber(c.Args().First())
	if err != nil {
		return 0, &usageError{problem: err.Error()}
	}
	return n, nil
}

// shower is what prints the letter.
func (o *showOptions) shower() (func(io.Writer, *persist.DeadLetter) error, error) {
	if o.json && o.mode != "" && o.mode != "json" {
		return nil, &usageError{option: "--json", problem: "cannot stand beside --output " + o.mode}
	}
	if o.format != "" && (o.json || o.mode != "") {
		return nil, &usageError{option: "--format", problem: "cannot stand beside --json or --output; it says all of it"}
	}
	switch {
	case o.format != "":
		f, err := parseFormat(o.format)
		if err != nil {
			return nil, &usageError{option: "--format", problem: err.Error()}
		}
		return func(w io.Writer, l *persist.DeadLetter) error {
			b, _ := f.append(nil, receivedOf(l))
			_, err := w.Write(append(b, '\n'))
			return err
		}, nil
	case o.json || o.mode == "json":
		return showObject, nil
	case o.mode == "raw":
		return func(w io.Writer, l *persist.DeadLetter) error {
			_, err := w.Write(l.Message.Payload)
			return err
		}, nil
	}
	return showText, nil
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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	// What goes wrong in writing shows at Flush.
	row := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", name, visible(text))
		}
	}
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
	row("id", m.ID)
	row("topic", m.Topic)
	row("qos", m.QoS)
	row("retain", m.Retain)
	row("ordering key", m.OrderingKey)
	if m.Receipt {
		row("receipt", "asked for")
	}
	if m.Expiry > 0 {
		row("expiry", m.Expiry)
	}
	p := &m.Properties
	if p.UTF8 {
		row("payload format", "UTF-8")
	}
	row("content type", p.ContentType)
	row("response topic", p.ResponseTopic)
	if len(p.CorrelationData) > 0 {
		row("correlation data", printable(p.CorrelationData))
	}
	for _, u := range p.User {
		row("user property", u.Name+"="+u.Value)
	}
	row("payload bytes", len(m.Payload))
	if len(m.Payload) > 0 && !utf8.Valid(m.Payload) {
		row("payload in base64", base64.StdEncoding.EncodeToString(m.Payload))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(m.Payload) == 0 || !utf8.Valid(m.Payload) {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", m.Payload)
	return err
}

// printable is data as text if it is UTF-8, else in base64, and says so.
func printable(data []byte) string {
	if text, encoded := textOrBase64(data); text == nil {
		return *encoded + " (base64)"
	} else {
		return *text
	}
}
