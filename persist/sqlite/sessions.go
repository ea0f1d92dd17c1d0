package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/oncemq/oncemq/persist"
)

// LoadSession reads packet state; see [persist.Sessions].
func (s *Store) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	t := &loadTask{call: newCall("load session", clientID, 1), clientID: clientID, epoch: epoch}
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	return t.states, nil
}

type loadTask struct {
	call
	clientID string
	epoch    int64
	states   []persist.PacketState
}

func (t *loadTask) run(ctx context.Context, tx *txn) error {
	t.states = nil
	id, ok, err := openSession(ctx, tx, t.clientID, t.epoch)
	if err != nil {
		return err
	}
	if !ok {
		return t.refuse(persist.ErrLeaseLost)
	}
	var dest [4]driver.Value
	rows, err := tx.query(ctx, tx.q.packetList, id)
	return eachRow(rows, err, dest[:], func() error {
		t.states = append(t.states, persist.PacketState{
			PacketID: uint16(asInt(dest[0])),
			Step:     persist.PacketStep(asInt(dest[1])),
			Position: asInt(dest[2]),
			Sequence: asInt(dest[3]),
		})
		return nil
	})
}

// openSession is the number of a session whose epoch is raised to the given one;
// not ok if it is higher already.
func openSession(ctx context.Context, tx *txn, clientID string, epoch int64) (id int64, ok bool, err error) {
	var dest [2]driver.Value
	found, err := queryRow(ctx, tx, dest[:], tx.q.sessionGet, clientID)
	if err != nil {
		return 0, false, err
	}
	if found && asInt(dest[1]) >= epoch {
		return asInt(dest[0]), asInt(dest[1]) == epoch, nil
	}
	_, err = queryRow(ctx, tx, dest[:1], tx.q.sessionPut, clientID, epoch)
	return asInt(dest[0]), true, err
}

// SaveSession writes packet state; see [persist.Sessions].
func (s *Store) SaveSession(ctx context.Context, change persist.SessionChange) error {
	const op = "save session"
	for i := range change.Put {
		if step := change.Put[i].Step; step < persist.StepPublished || step > persist.StepReceived {
			return &persist.Error{
				Op: op, Object: change.ClientID, Kind: persist.ErrInvalid,
				Err: fmt.Errorf("packet %d: unknown step %d", change.Put[i].PacketID, step),
			}
		}
	}
	rows := len(change.Put) + len(change.Delete) + len(change.DeleteReceived)
	return s.submit(ctx, &saveTask{call: newCall(op, change.ClientID, max(rows, 1)), change: change})
}

type saveTask struct {
	call
	change persist.SessionChange
	args   []any
}

func (t *saveTask) run(ctx context.Context, tx *txn) error {
	c := &t.change
	id, ok, err := openSession(ctx, tx, c.ClientID, c.Epoch)
	if err != nil {
		return err
	}
	if !ok {
		return t.refuse(persist.ErrLeaseLost)
	}
	if c.Clear {
		if _, err := tx.exec(ctx, tx.q.packetClear, id); err != nil {
			return err
		}
	}
	for received, list := range [][]uint16{c.Delete, c.DeleteReceived} {
		if len(list) == 0 {
			continue
		}
		if _, err := tx.exec(ctx, tx.q.packetDelete, id, int64(received), jsonInts(list)); err != nil {
			return err
		}
	}
	return tx.q.insertPackets.each(len(c.Put), func(stmt *statement, from, to int) error {
		t.args = append(t.args[:0], id)
		for i := range c.Put[from:to] {
			p := &c.Put[from+i]
			t.args = append(t.args, asFlag(p.Step == persist.StepReceived), int64(p.PacketID),
				int64(p.Step), p.Position, p.Sequence)
		}
		_, err := tx.exec(ctx, stmt, t.args...)
		return err
	})
}
