package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

func deadCommand(sh *shell) *cli.Command {
	return &cli.Command{
		Name:      "dead",
		Usage:     "look at messages that failed for good, try them again, delete them",
		UsageText: "oncemq dead COMMAND [options]",
		Description: `
Dead letters come from both sides: from the outbox, whose messages the broker
refused or that expired, and from consumers with a group, that gave theirs up. May
be used while relays and consumers work on the same store.

Examples:
  oncemq dead list --side consumer --group billing
  oncemq dead show 42
  oncemq dead retry --number 42 --set-property tenant=a --dry-run
  oncemq dead retry --topic 'orders/#' --to-topic orders/second-try
  oncemq dead purge --older-than 720h`,
		Subcommands: []*cli.Command{deadListCommand(sh), deadShowCommand(sh), deadRetryCommand(sh), deadPurgeCommand(sh)},
	}
}

// deadOptions choose letters.
type deadOptions struct {
	outboxOptions
	side    string
	filter  autopaho.DeadLetterFilter
	limit   int
	filters []*option // those of its options that choose
}

const catFilter = "Which letters (all that are given must agree)"

// filterOptions have no environment variables: what is deleted is said on the
// command line.
func (o *deadOptions) filterOptions(most string) []*option {
	f := &o.filter
	o.filters = []*option{
		{name: "side", category: catFilter, set: oneOf(&o.side, "outbox", "consumer"), choices: []string{"outbox", "consumer"}, def: "both", usage: "those of a `SIDE`: outbox or consumer"},
		{name: "group", category: catFilter, set: name(&f.Group), usage: "those of the consumers' group of that `NAME`"},
		{name: "topic", also: []string{"t"}, category: catFilter, set: oneFilter(&f.Topic), usage: "those whose topic matches a topic `FILTER`"},
		{
			name: "reason-code", category: catFilter, many: true, set: reasonCode(&f.ReasonCodes),
			usage: "those with an MQTT reason `CODE`, such as 0x87 or 135; may be given several times",
		},
		{name: "number", category: catFilter, many: true, set: letterNumbers(&f.Numbers), usage: "the one of a `NUMBER`; may be given several times"},
		{
			name: "older-than", category: catFilter, set: age(&f.OlderThan),
			usage: "those that have been there for longer than a `TIME`, such as 24h, by the store's clock",
		},
	}
	return append(o.filters[:len(o.filters):len(o.filters)], &option{
		name: "limit", category: catFilter, set: number(&o.limit, 0, math.MaxInt32), def: most,
		usage: "most letters, a `NUMBER`; the oldest first, 0 is all",
	})
}

// chosen tells whether an option was given that chooses letters.
func (o *deadOptions) chosen() bool {
	for _, f := range o.filters {
		if f.given {
			return true
		}
	}
	return false
}

// check completes the filter.
func (o *deadOptions) check() error {
	switch o.side {
	case "outbox":
		o.filter.Side = persist.SideOutbox
	case "consumer":
		o.filter.Side = persist.SideConsumer
	}
	if o.filter.Group != "" && o.filter.Side == persist.SideOutbox {
		return &usageError{option: "--group", problem: "cannot stand beside --side outbox; only consumers have groups"}
	}
	return nil
}

// missing is an error that names the numbers that were asked for and not found.
func (o *deadOptions) missing(seen map[int64]bool) error {
	var missing []string
	for _, n := range o.filter.Numbers {
		if !seen[n] {
			missing = append(missing, strconv.FormatInt(n, 10))
			seen[n] = true
		}
	}
	if len(missing) == 0 || o.limit > 0 {
		return nil
	}
	problem := "there is no dead letter " + strings.Join(missing, ", ")
	if len(o.filters) > 0 && (o.side != "" || o.filter.Group != "" || o.filter.Topic != "" || o.filter.ReasonCodes != nil || o.filter.OlderThan != 0) {
		problem += " that the other options choose"
	}
	return &exitError{code: exitFailed, text: "--number: " + problem}
}

// oneFilter takes a topic filter.
func oneFilter(dst *string) func(string) error {
	return func(s string) error {
		if err := qos.ValidateFilter(s); err != nil {
			return bare(err)
		}
		*dst = s
		return nil
	}
}

// reasonCode appends a reason code, decimal or in hexadecimal.
func reasonCode(dst *[]byte) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 0, 8)
		if err != nil {
			return fmt.Errorf("%s is not a reason code; use 0 to 255, or 0x00 to 0xFF", shown(s))
		}
		*dst = append(*dst, byte(n))
		return nil
	}
}

// letterNumbers appends a number of a letter.
func letterNumbers(dst *[]int64) func(string) error {
	return func(s string) error {
		n, err := letterNumber(s)
		if err != nil {
			return err
		}
		*dst = append(*dst, n)
		return nil
	}
}

func letterNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is not the number of a dead letter; oncemq dead list shows them", shown(s))
	}
	return n, nil
}

// age takes a time that is not zero.
func age(dst *time.Duration) func(string) error {
	return func(s string) error {
		d, err := parseSpan(s)
		switch {
		case err != nil:
			return err
		case d < time.Millisecond:
			return errors.New("is no time; use 1ms or more")
		}
		*dst = d
		return nil
	}
}

// letterObject is a dead letter in JSON.
type letterObject struct {
	Number     int64          `json:"number"`
	Side       string         `json:"side"`
	State      string         `json:"state"`
	At         string         `json:"at"`
	Group      string         `json:"group,omitempty"`
	Key        string         `json:"key,omitempty"`
	Lane       *int           `json:"lane,omitempty"`
	Position   int64          `json:"position,omitempty"`
	ID         string         `json:"id"`
	Topic      string         `json:"topic"`
	QoS        byte           `json:"qos"`
	Retain     bool           `json:"retain"`
	PayloadLen int            `json:"payloadlen"`
	Attempts   int            `json:"attempts"`
	ReasonCode byte           `json:"reason_code,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	FirstError *failureObject `json:"first_error,omitempty"`
	LastError  *failureObject `json:"last_error,omitempty"`
}

type failureObject struct {
	At    string `json:"at,omitempty"`
	Error string `json:"error"`
}

func newLetterObject(l *persist.DeadLetter) letterObject {
	o := letterObject{
		Number: l.Number, Side: l.Side.String(), State: l.State.String(), At: instant(l.At), Group: l.Group, Key: l.Key,
		ID: l.Message.ID, Topic: l.Message.Topic, QoS: l.Message.QoS, Retain: l.Message.Retain,
		PayloadLen: len(l.Message.Payload), Attempts: l.Attempts, ReasonCode: l.ReasonCode, Reason: l.Reason,
		FirstError: newFailureObject(l.First), LastError: newFailureObject(l.Last),
	}
	if l.Ref != (persist.Ref{}) {
		o.Lane, o.Position = &l.Ref.Lane, l.Ref.Position
	}
	return o
}

func newFailureObject(f persist.Failure) *failureObject {
	if f == (persist.Failure{}) {
		return nil
	}
	o := &failureObject{Error: f.Error}
	if !f.At.IsZero() {
		o.At = instant(f.At)
	}
	return o
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// codeText is a reason code as MQTT's tables have it.
func codeText(code byte) string { return fmt.Sprintf("0x%02X", code) }

// deadAction is storeAction for a command that chooses letters.
func deadAction(sh *shell, o *deadOptions, run func(context.Context, persist.Store) error) cli.ActionFunc {
	return action(sh, func(ctx context.Context, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		return o.look(ctx, sh, run)
	})
}
