package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/persist"
)

func outboxCommand(sh *shell) *cli.Command {
	return &cli.Command{
		Name:      "outbox",
		Usage:     "look at what is stored and not delivered, retry and delete it",
		UsageText: "oncemq outbox COMMAND [options]",
		Description: `
May be used while a relay works on the same store.

Examples:
  oncemq outbox stats
  oncemq outbox list --state failed --json
  oncemq outbox show 01a223bf-7c4c-7cbb-af81-ef97c16ed347
  oncemq outbox retry --topic 'orders/#'
  oncemq outbox purge --state delivered`,
		Subcommands: []*cli.Command{outboxStatsCommand(sh), outboxListCommand(sh), outboxShowCommand(sh), outboxRetryCommand(sh), outboxPurgeCommand(sh)},
	}
}

// outboxOptions are what all commands have that look at a store.
type outboxOptions struct {
	store  storeOptions
	report reportOptions
	json   bool
}

func (o *outboxOptions) options() []*option {
	options := append(withEnv([]*option{{name: "json", set: on(&o.json), usage: "print JSON, one object a line"}}), o.store.options()...)
	return append(options, o.report.options()...)
}

// storeAction is the Action of a command that works on an open store and nothing else.
func storeAction(sh *shell, o *outboxOptions, run func(context.Context, persist.Store) error) cli.ActionFunc {
	return action(sh, func(ctx context.Context, _ []string) error { return o.look(ctx, sh, run) })
}

// look opens the store and runs what looks at it.
func (o *outboxOptions) look(ctx context.Context, sh *shell, run func(context.Context, persist.Store) error) error {
	store, err := o.store.openExisting(ctx, sh)
	if err != nil {
		return err
	}
	defer closeStore(sh, store)
	return run(ctx, store)
}

func outboxStatsCommand(sh *shell) *cli.Command {
	o := new(outboxOptions)
	options := o.options()
	return &cli.Command{
		Name:      "stats",
		Usage:     "count what is in the store",
		UsageText: "oncemq outbox stats [--store URL] [--json]",
		Description: `
Examples:
  oncemq outbox stats --store postgres://app@db.example/app
  oncemq outbox stats --json | jq .pending`,
		Flags: toFlags(options),
		Action: storeAction(sh, o, func(ctx context.Context, store persist.Store) error {
			s, err := store.Stats(ctx)
			if err != nil {
				return err
			}
			if o.json {
				return writeLine(sh.stdout, newStatsObject(store, &s))
			}
			_, width, _ := terminal(sh.stdout)
			_, err = io.WriteString(sh.stdout, statsText(store, &s, width))
			return err
		}),
	}
}

// statsObject is what outbox stats --json prints.
type statsObject struct {
	Store           string `json:"store"`
	Durability      string `json:"durability"`
	Pending         int64  `json:"pending"`
	Delivered       int64  `json:"delivered"`
	OldestPendingMS int64  `json:"oldest_pending_ms"`
	Failed          int64  `json:"failed"`
	Expired         int64  `json:"expired"`
	Dropped         int64  `json:"dropped"`
	Superseded      int64  `json:"superseded"`
	Bytes           int64  `json:"bytes"`
	limitsObject
	ConsumerDead int64        `json:"consumer_dead"`
	Completed    int64        `json:"completed"`
	InWork       int64        `json:"in_work"`
	Groups       []string     `json:"groups"`
	Lanes        []laneObject `json:"lanes"`
}

// limitsObject are the limits of an outbox; what is left out is none.
type limitsObject struct {
	MaxMessages int   `json:"max_messages,omitempty"`
	MaxBytes    int64 `json:"max_bytes,omitempty"`
	MaxAgeMS    int64 `json:"max_age_ms,omitempty"`
}

func newLimitsObject(l persist.Limits) limitsObject {
	return limitsObject{l.Messages, l.Bytes, l.Age.Milliseconds()}
}

type laneObject struct {
	Lane             int    `json:"lane"`
	Pending          int64  `json:"pending"`
	Owner            string `json:"owner,omitempty"`
	Epoch            int64  `json:"epoch"`
	LeaseRemainingMS int64  `json:"lease_remaining_ms"`
}

func newStatsObject(store persist.Store, s *persist.Stats) statsObject {
	o := statsObject{
		Store: store.Identity(), Durability: store.Durability(),
		Pending: s.Pending, Delivered: s.Delivered, OldestPendingMS: s.OldestPending.Milliseconds(),
		Failed: s.Failed, Expired: s.Expired, Dropped: s.Dropped, Superseded: s.Superseded,
		Bytes: s.Bytes, limitsObject: newLimitsObject(s.Limits), ConsumerDead: s.ConsumerDead,
		Completed: s.Completed, InWork: s.InWork, Groups: append([]string{}, s.Groups...), Lanes: make([]laneObject, len(s.Lanes)),
	}
	for i, l := range s.Lanes {
		o.Lanes[i] = laneObject{l.Lane, l.Pending, l.Owner, l.Epoch, max(0, l.Remaining.Milliseconds())}
	}
	return o
}

// statsText shows what a store holds, on a terminal of a width, or on none.
func statsText(store persist.Store, s *persist.Stats, width int) string {
	r := rows{width: width}
	r.add("store", store.Identity())
	r.add("pending", s.Pending)
	if s.OldestPending > 0 {
		r.add("oldest pending", s.OldestPending.Round(time.Second))
	}
	r.add("delivered, awaiting receipt", s.Delivered)
	r.add("bytes", s.Bytes)
	r.add("limits of the outbox", s.Limits)
	r.add("failed", s.Failed)
	r.add("expired", s.Expired)
	r.add("dropped", s.Dropped)
	r.add("superseded", s.Superseded)
	r.add("consumer dead letters", s.ConsumerDead)
	r.add("processed keys", s.Completed)
	r.add("keys in work", s.InWork)
	for i, group := range s.Groups {
		name := "groups"
		if i > 0 {
			name = ""
		}
		r.add(name, group)
	}
	lanes := grid{width: width, heads: []string{"LANE", "PENDING", "EPOCH", "LEASE", "OWNER"}}
	for _, l := range s.Lanes {
		lease := "-"
		if l.Remaining > 0 {
			lease = l.Remaining.Round(100 * time.Millisecond).String()
		}
		lanes.line(l.Lane, l.Pending, l.Epoch, lease, orDash(l.Owner))
	}
	return r.String() + "\n" + lanes.String()
}

// listOptions are the options of outbox list.
type listOptions struct {
	outboxOptions
	lane  int
	state string
	limit int
}

func outboxListCommand(sh *shell) *cli.Command {
	o := &listOptions{lane: -1, limit: 100}
	options := withEnv([]*option{
		{name: "lane", set: number(&o.lane, 0, math.MaxInt32), def: "all", usage: "the `NUMBER` of the lane to list"},
		{
			name: "state", set: oneOf(&o.state, "pending", "delivered", "failed", "expired"), choices: []string{"pending", "delivered", "failed", "expired"}, def: "pending and delivered",
			usage: "list messages in this `STATE`: pending, delivered (the broker has it, a receipt is awaited), failed or expired",
		},
		{name: "limit", set: number(&o.limit, 0, math.MaxInt32), def: "100", usage: "most messages to list, a `NUMBER`; 0 is all"},
	})
	options = append(options, o.options()...)
	return &cli.Command{
		Name:      "list",
		Usage:     "list messages, oldest first, without their payloads",
		UsageText: "oncemq outbox list [--store URL] [--lane NUMBER] [--state STATE] [--limit NUMBER] [--json]",
		Description: `
Examples:
  oncemq outbox list --limit 10
  oncemq outbox list --state failed --json`,
		Flags: toFlags(options),
		Action: storeAction(sh, &o.outboxOptions, func(ctx context.Context, store persist.Store) error {
			return listOutbox(ctx, sh.stdout, store, o)
		}),
	}
}

// entryObject is what outbox list --json prints for a message.
type entryObject struct {
	Lane        int    `json:"lane"`
	Position    int64  `json:"position"`
	ID          string `json:"id"`
	State       string `json:"state"`
	Topic       string `json:"topic"`
	OrderingKey string `json:"ordering_key,omitempty"`
	QoS         byte   `json:"qos"`
	Retain      bool   `json:"retain"`
	PayloadLen  int    `json:"payloadlen"`
	Attempts    int    `json:"attempts"`
	Since       string `json:"since"`
	ReasonCode  byte   `json:"reason_code,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

func newEntryObject(ref persist.Ref, m *persist.Message, state persist.State, attempts int, since time.Time) entryObject {
	return entryObject{
		Lane: ref.Lane, Position: ref.Position, ID: m.ID, State: state.String(), Topic: m.Topic,
		OrderingKey: m.OrderingKey, QoS: m.QoS, Retain: m.Retain, PayloadLen: len(m.Payload),
		Attempts: attempts, Since: since.UTC().Format(time.RFC3339Nano),
	}
}

// listPage is how many entries are read at once: memory is bounded however long
// the list is.
const listPage = 500

func listOutbox(ctx context.Context, w io.Writer, store persist.Store, o *listOptions) error {
	p := newEntryPrinter(w, o.json)
	left := o.limit
	if left == 0 {
		left = math.MaxInt
	}
	var err error
	switch o.state {
	case "failed", "expired":
		err = eachDead(ctx, store, o, func(e entryObject) (bool, error) {
			left--
			return left > 0, p.print(e)
		})
	default:
		err = eachEntry(ctx, store, o, func(e entryObject) (bool, error) {
			left--
			return left > 0, p.print(e)
		})
	}
	if err != nil {
		return err
	}
	return p.flush()
}

// eachEntry hands out the entries of the outbox until fn has enough.
func eachEntry(ctx context.Context, store persist.Store, o *listOptions, fn func(entryObject) (more bool, err error)) error {
	lanes, err := store.Lanes(ctx)
	if err != nil {
		return err
	}
	if o.lane >= len(lanes) {
		return noLane(o.lane, len(lanes))
	}
	for _, lane := range lanes {
		if o.lane >= 0 && lane.Lane != o.lane {
			continue
		}
		req := persist.ListRequest{Lane: lane.Lane, Limit: listPage}
		switch o.state {
		case "pending":
			req.States = []persist.State{persist.StatePending}
		case "delivered":
			req.States = []persist.State{persist.StateDelivered}
		}
		for {
			entries, err := store.ListOutbox(ctx, req)
			if err != nil {
				return err
			}
			for i := range entries {
				e := &entries[i]
				req.After = e.Position
				entry := newEntryObject(e.Ref, &e.Message, e.State, e.Attempts, e.EnqueuedAt)
				entry.Reason = e.LastError
				if more, err := fn(entry); err != nil || !more {
					return err
				}
			}
			if len(entries) < listPage {
				break
			}
		}
	}
	return nil
}

func noLane(lane, lanes int) error {
	return &usageError{option: "--lane", problem: fmt.Sprintf("%d is no lane of this store; it has %d, counted from 0", lane, lanes)}
}

// eachDead hands out the outbox's dead letters until fn has enough.
func eachDead(ctx context.Context, store persist.Store, o *listOptions, fn func(entryObject) (more bool, err error)) error {
	filter := persist.DeadLetterFilter{Side: persist.SideOutbox}
	for {
		letters, err := store.ListDeadLetters(ctx, filter, listPage)
		if err != nil {
			return err
		}
		for i := range letters {
			l := &letters[i]
			filter.After = l.Number
			if l.State.String() != o.state || o.lane >= 0 && l.Ref.Lane != o.lane {
				continue
			}
			entry := newEntryObject(l.Ref, &l.Message, l.State, l.Attempts, l.At)
			entry.ReasonCode, entry.Reason = l.ReasonCode, l.Reason
			if more, err := fn(entry); err != nil || !more {
				return err
			}
		}
		if len(letters) < listPage {
			return nil
		}
	}
}

// entryPrinter prints entries as a table or as JSON.
type entryPrinter struct {
	w     io.Writer
	json  bool
	table *grid
}

func newEntryPrinter(w io.Writer, json bool) *entryPrinter {
	return &entryPrinter{w: w, json: json, table: newGrid(w,
		"LANE", "POSITION", "STATE", "SINCE", "QOS", "BYTES", "ATTEMPTS", "ID", "TOPIC", "REASON")}
}

func (p *entryPrinter) print(e entryObject) error {
	if p.json {
		return writeLine(p.w, e)
	}
	return p.table.add(e.Lane, e.Position, e.State, e.Since, e.QoS, e.PayloadLen, e.Attempts, e.ID, e.Topic, reasonCell(e))
}

func reasonCell(e entryObject) string {
	if e.ReasonCode == 0 || e.Reason != "" {
		return e.Reason
	}
	return "0x" + strconv.FormatUint(uint64(e.ReasonCode), 16)
}

func (p *entryPrinter) flush() error { return p.table.flush() }

// writeLine writes a JSON object on a line.
func writeLine(w io.Writer, v any) error {
	b, err := marshalLine(v)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
