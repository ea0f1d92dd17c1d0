package redis

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/oncemq/oncemq/persist"
)

// statusStale is what the scripts of sessions answer to an epoch that is too low.
const statusStale = -1

// The names of fields begin with who began the exchange.
const (
	ours   = "p"
	theirs = "r"
)

// LoadSession reads packet state; see [persist.Sessions].
func (s *Store) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	const op = "load session"
	answer, err := s.do(ctx, op, clientID, s.run.sessionLoad, []string{s.keys.session(clientID)}, epoch)
	if err != nil {
		return nil, err
	}
	if n, ok := answer.(int64); ok && n == statusStale {
		return nil, refuse(op, clientID, persist.ErrLeaseLost)
	}
	var states []persist.PacketState
	f := asList(answer)
	for i := 0; i+1 < len(f); i += 2 {
		name := asText(f[i])
		if name == "epoch" {
			continue
		}
		state, ok := readPacket(name, asText(f[i+1]))
		if !ok {
			return nil, refuse(op, clientID, persist.ErrCorrupt)
		}
		states = append(states, state)
	}
	slices.SortFunc(states, func(a, b persist.PacketState) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.PacketID, b.PacketID))
	})
	return states, nil
}

// SaveSession writes packet state; see [persist.Sessions].
func (s *Store) SaveSession(ctx context.Context, change persist.SessionChange) error {
	const op = "save session"
	for i := range change.Put {
		if step := change.Put[i].Step; step < persist.StepPublished || step > persist.StepReceived {
			return invalid(op, change.ClientID, "packet %d: unknown step %d", change.Put[i].PacketID, step)
		}
	}
	n := len(change.Delete) + len(change.DeleteReceived)
	args := make([]any, 0, 3+n+2*len(change.Put))
	args = append(args, change.Epoch, change.Clear, n)
	for _, id := range change.Delete {
		args = append(args, ours+strconv.Itoa(int(id)))
	}
	for _, id := range change.DeleteReceived {
		args = append(args, theirs+strconv.Itoa(int(id)))
	}
	for i := range change.Put {
		name, value := writePacket(&change.Put[i])
		args = append(args, name, value)
	}
	answer, err := s.do(ctx, op, change.ClientID, s.run.sessionSave, []string{s.keys.session(change.ClientID)}, args...)
	if err == nil && asInt(answer) == statusStale {
		err = refuse(op, change.ClientID, persist.ErrLeaseLost)
	}
	return err
}

// writePacket is the field of an exchange: step, position, sequence.
func writePacket(p *persist.PacketState) (name, value string) {
	name = ours
	if p.Step == persist.StepReceived {
		name = theirs
	}
	b := strconv.AppendInt(nil, int64(p.Step), 10)
	b = strconv.AppendInt(append(b, ' '), p.Position, 10)
	b = strconv.AppendInt(append(b, ' '), p.Sequence, 10)
	return name + strconv.Itoa(int(p.PacketID)), string(b)
}

func readPacket(name, value string) (p persist.PacketState, ok bool) {
	f := strings.Split(value, " ")
	if len(f) != 3 || !strings.HasPrefix(name, ours) && !strings.HasPrefix(name, theirs) {
		return p, false
	}
	id, err := strconv.ParseUint(name[1:], 10, 16)
	step, err1 := strconv.ParseUint(f[0], 10, 8)
	position, err2 := strconv.ParseInt(f[1], 10, 64)
	sequence, err3 := strconv.ParseInt(f[2], 10, 64)
	p = persist.PacketState{PacketID: uint16(id), Step: persist.PacketStep(step), Position: position, Sequence: sequence}
	ok = err == nil && err1 == nil && err2 == nil && err3 == nil &&
		p.Step >= persist.StepPublished && p.Step <= persist.StepReceived
	return p, ok
}
