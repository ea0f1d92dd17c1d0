package autopaho

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

const (
	// lookupSize is how many messages are asked for at once.
	lookupSize = 1024
	// storeRest is how long to wait before a call of the store is tried again.
	storeRest = 200 * time.Millisecond
)

// inFlight is what earlier holders of a lane had in flight at QoS 2.
type inFlight struct {
	// exchanges are those that the session goes on with, none if it is not worth
	// going on with.
	exchanges []session.Exchange
	// entries were read from the lane to find their messages, in the order in
	// which they are to be sent.
	entries []persist.Entry
}

// begun are the positions of the messages whose exchanges go on: the broker may have
// them, or has them for certain, and it is too late to give them up.
func (f *inFlight) begun() map[int64]bool {
	begun := make(map[int64]bool, len(f.exchanges))
	for _, x := range f.exchanges {
		if !x.Gone {
			begun[x.Position] = true
		}
	}
	return begun
}

// restore finds what earlier holders of the lane had in flight at QoS 2, and the
// messages that belong to it: they are sent again before any other. It raises the
// epoch of the session's packet state, so that no earlier holder sends from then on
// what the store does not know.
func (d *drain) restore(ctx context.Context) (*inFlight, error) {
	var states []persist.PacketState
	err := d.insist(ctx, "load session", func(ctx context.Context) (err error) {
		states, err = d.client.cfg.Store.LoadSession(ctx, d.clientID(), d.lane.Epoch())
		return err
	})
	if errors.Is(err, persist.ErrCorrupt) {
		// Nothing is lost: what was in flight is sent again, in a new session.
		d.relay.trouble("load session", err)
		return &inFlight{}, d.savePackets(ctx, nil)
	}
	if err != nil || len(states) == 0 {
		return &inFlight{}, err
	}
	f := &inFlight{}
	awaited, err := d.judgeStates(ctx, states, f)
	if err != nil {
		return nil, err
	}
	if len(f.exchanges) == 0 {
		return f, d.savePackets(ctx, nil)
	}
	if err := d.readAwaited(ctx, awaited, f); err != nil {
		return nil, err
	}
	f.entries = resendOrder(f.exchanges, f.entries)
	return f, nil
}

// judgeStates asks what became of the messages of packet states. It returns the
// positions of those that the lane hands out at once.
//
// A message that was delivered and awaits its receipt has ended the exchange that
// is released. One that is not may be of its second transmission, whose turn comes
// when the receipt is overdue.
func (d *drain) judgeStates(ctx context.Context, states []persist.PacketState, f *inFlight) (map[int64]int, error) {
	fates, err := d.fatesOf(ctx, states)
	if err != nil {
		return nil, err
	}
	awaited := make(map[int64]int)
	open := false
	for i, p := range states {
		fate := &fates[i]
		x := session.Exchange{PacketState: p}
		switch {
		case p.Step == persist.StepReceived:
			continue
		case fate.Gone:
			x.Gone = true
		case fate.State == persist.StatePending:
			awaited[p.Position] = len(f.exchanges)
		case fate.State == persist.StateDelivered:
			x.Gone = p.Step == persist.StepReleased
		default:
			x.Gone = true
		}
		open = open || !x.Gone || p.Step == persist.StepReleased
		f.exchanges = append(f.exchanges, x)
	}
	if !open {
		// Identifiers that must not be used are all there is. In a new session
		// they may be.
		f.exchanges = nil
	}
	return awaited, nil
}

func (d *drain) fatesOf(ctx context.Context, states []persist.PacketState) ([]persist.Fate, error) {
	all := make([]persist.Fate, 0, len(states))
	for len(states) > 0 {
		n := min(len(states), lookupSize)
		refs := make([]persist.Ref, n)
		for i := range refs {
			refs[i] = persist.Ref{Lane: d.lane.Number(), Position: states[i].Position}
		}
		states = states[n:]
		err := d.insist(ctx, "look up messages in flight", func(ctx context.Context) error {
			fates, err := d.client.cfg.Store.Lookup(ctx, refs)
			all = append(all, fates...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readAwaited reads the lane until the awaited messages have come. They are among
// the first: what an earlier holder had in flight it had been handed out by then,
// and it held no more than a window and some pages.
func (d *drain) readAwaited(ctx context.Context, awaited map[int64]int, f *inFlight) error {
	for len(awaited) > 0 {
		var page []persist.Entry
		var unknown error
		err := d.insist(ctx, "read lane", func(ctx context.Context) (err error) {
			page, err = d.lane.Next(ctx, pageSize, pageBytes)
			if errors.Is(err, persist.ErrUnknownOutcome) {
				d.client.store.note(err)
				unknown = fmt.Errorf("read lane: %w", err) // see drain.refill
				return nil
			}
			return err
		})
		if err == nil {
			err = unknown
		}
		if err != nil {
			return err
		}
		if len(page) == 0 {
			// They were taken away meanwhile, or are not due: then they go on
			// when they are.
			return d.settleAwaited(ctx, awaited, f)
		}
		for i := range page {
			delete(awaited, page[i].Position)
		}
		f.entries = append(f.entries, page...)
	}
	return nil
}

func (d *drain) settleAwaited(ctx context.Context, awaited map[int64]int, f *inFlight) error {
	states := make([]persist.PacketState, 0, len(awaited))
	at := make([]int, 0, len(awaited))
	for _, i := range awaited {
		states, at = append(states, f.exchanges[i].PacketState), append(at, i)
	}
	fates, err := d.fatesOf(ctx, states)
	if err != nil {
		return err
	}
	for i, fate := range fates {
		f.exchanges[at[i]].Gone = fate.Gone || fate.State != persist.StatePending
	}
	return nil
}

// resendOrder puts what was read into the order in which it is to be sent: the
// messages of exchanges in the order of these [MQTT-4.6.0-1], each after those that
// stand before it in the lane. These were in flight at another level perhaps, and
// have no exchange; they were sent before it, and are sent again before it.
func resendOrder(exchanges []session.Exchange, entries []persist.Entry) []persist.Entry {
	at := make(map[int64]int, len(exchanges)) // where a message is among entries
	for _, x := range exchanges {
		if !x.Gone {
			at[x.Position] = -1
		}
	}
	rest := make([]persist.Entry, 0, len(entries))
	for i := range entries {
		if _, ok := at[entries[i].Position]; ok {
			at[entries[i].Position] = i
			continue
		}
		rest = append(rest, entries[i])
	}
	ordered := make([]persist.Entry, 0, len(entries))
	for _, x := range exchanges {
		i, ok := at[x.Position]
		if !ok || i < 0 || x.Gone {
			continue
		}
		for len(rest) > 0 && rest[0].Position < x.Position {
			ordered, rest = append(ordered, rest[0]), rest[1:]
		}
		ordered = append(ordered, entries[i])
		delete(at, x.Position) // of two exchanges the message has one place
	}
	return append(ordered, rest...)
}

// savePackets makes packet state durable before the engine writes what depends on
// it. It waits for a store that is away; it fails if the session is another's, or
// the drain is to end and the store does not answer.
func (d *drain) savePackets(ctx context.Context, states []persist.PacketState) error {
	err := d.insist(ctx, "save session", func(ctx context.Context) error {
		return d.lane.SaveSession(ctx, d.clientID(), states)
	})
	if err != nil && !errors.Is(err, errDrainStops) {
		select {
		case d.lost <- fmt.Errorf("lane %d: %w", d.lane.Number(), err):
		default:
		}
	}
	return err
}

// saveLast saves the packet state once more when the link has ended and everything
// is settled, so that a lane which was left in good order begins with a new session.
func (d *drain) saveLast(ctx context.Context, engine *session.Engine) {
	states, stored := engine.Packets()
	if !stored {
		return
	}
	err := d.lane.SaveSession(ctx, d.clientID(), states)
	if err != nil && !errors.Is(err, persist.ErrLeaseLost) {
		d.relay.trouble("save session", err) // what was saved before is good as well
	}
}

// insist calls the store until it has done something. It gives up if another
// attempt cannot help, if the lease is lost, and if the drain is to end.
func (d *drain) insist(ctx context.Context, what string, call func(context.Context) error) error {
	for {
		err := d.patience.call(ctx, call)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, persist.ErrLeaseLost), errors.Is(err, persist.ErrClosed), errors.Is(err, persist.ErrCorrupt):
			return fmt.Errorf("%s: %w", what, err)
		case ctx.Err() != nil:
			return errDrainStops
		}
		d.relay.trouble(what, err)
		if !d.sleep(ctx, storeRest) {
			return errDrainStops
		}
		select {
		case <-d.tenure.lost:
			return fmt.Errorf("%s: %w", what, persist.ErrLeaseLost)
		default:
		}
	}
}
