package persisttest

import (
	"math"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// sessionCases are about the packet state of MQTT sessions.
func sessionCases() []testCase {
	return []testCase{
		{tag: "SESSION-1", name: "loading raises the epoch", run: checkSessionEpoch},
		{tag: "SESSION-2", name: "a change is applied whole", run: checkSessionChange},
		{tag: "SESSION-2", name: "identifiers of both directions", run: checkDirections},
		{tag: "SESSION-2", name: "an identifier ends and begins in one change", run: checkReuse},
		{tag: "SESSION-2", name: "all 65,535 identifiers", run: checkAllIdentifiers},
		{tag: "SESSION-3", name: "a lower epoch changes nothing", run: checkSessionFenced},
		{tag: "Session", name: "order of sequence", run: checkSessionOrder},
		{tag: "Session", name: "survives a crash", run: checkSessionCrash},
		{tag: "Session", name: "hostile client IDs", run: checkHostileClients},
	}
}

func (e *env) load(client string, epoch int64) []persist.PacketState {
	e.Helper()
	states, err := e.store.LoadSession(e.ctx, client, epoch)
	require.NoError(e, err, "load session")
	return states
}

func (e *env) save(change persist.SessionChange) {
	e.Helper()
	require.NoError(e, e.store.SaveSession(e.ctx, change), "save session")
}

func published(id uint16, sequence int64) persist.PacketState {
	return persist.PacketState{PacketID: id, Step: persist.StepPublished, Position: 100 + sequence, Sequence: sequence}
}

func checkSessionEpoch(e *env) {
	require.Empty(e, e.load("c", 5))
	err := e.store.SaveSession(e.ctx, persist.SessionChange{ClientID: "c", Epoch: 4, Put: []persist.PacketState{published(1, 1)}})
	require.ErrorIs(e, err, persist.ErrLeaseLost)
	_, err = e.store.LoadSession(e.ctx, "c", 4)
	require.ErrorIs(e, err, persist.ErrLeaseLost)
	require.Empty(e, e.load("c", 5))
	e.save(persist.SessionChange{ClientID: "c", Epoch: 5, Put: []persist.PacketState{published(1, 1)}})
	e.save(persist.SessionChange{ClientID: "other", Epoch: 1, Put: []persist.PacketState{published(2, 1)}})
	require.Len(e, e.load("c", 6), 1)
	err = e.store.SaveSession(e.ctx, persist.SessionChange{ClientID: "c", Epoch: 5, Clear: true})
	require.ErrorIs(e, err, persist.ErrLeaseLost)
	require.Len(e, e.load("c", 6), 1)
}

func checkSessionChange(e *env) {
	e.load("c", 1)
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{published(1, 1), published(2, 2), published(3, 3)}})
	released := persist.PacketState{PacketID: 2, Step: persist.StepReleased, Position: 102, Sequence: 2}
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{released, published(4, 4)}, Delete: []uint16{1, 9}})
	require.Equal(e, []persist.PacketState{released, published(3, 3), published(4, 4)}, e.load("c", 1))
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1})
	require.Len(e, e.load("c", 1), 3)
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Clear: true, Put: []persist.PacketState{published(7, 1)}})
	require.Equal(e, []persist.PacketState{published(7, 1)}, e.load("c", 1))
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Clear: true})
	require.Empty(e, e.load("c", 1))

	err := e.store.SaveSession(e.ctx, persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{published(1, 1), {PacketID: 2}}})
	require.ErrorIs(e, err, persist.ErrInvalid)
	require.Empty(e, e.load("c", 1), "half a change")
}

func checkDirections(e *env) {
	received := persist.PacketState{PacketID: 5, Step: persist.StepReceived, Sequence: 2}
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{published(5, 1), received}})
	require.Equal(e, []persist.PacketState{published(5, 1), received}, e.load("c", 1))
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Delete: []uint16{5}})
	require.Equal(e, []persist.PacketState{received}, e.load("c", 1))
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{published(5, 3)}, DeleteReceived: []uint16{5}})
	require.Equal(e, []persist.PacketState{published(5, 3)}, e.load("c", 1))
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Clear: true, Put: []persist.PacketState{received}})
	require.Equal(e, []persist.PacketState{received}, e.load("c", 1), "clear forgets both directions")
}

func checkReuse(e *env) {
	received := persist.PacketState{PacketID: 1, Step: persist.StepReceived, Sequence: 9}
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{published(1, 1), received}})
	next := received
	next.Sequence = 10
	e.save(persist.SessionChange{
		ClientID: "c", Epoch: 1, Delete: []uint16{1}, DeleteReceived: []uint16{1}, Put: []persist.PacketState{published(1, 2), next},
	})
	require.Equal(e, []persist.PacketState{published(1, 2), next}, e.load("c", 1))
}

func checkAllIdentifiers(e *env) {
	states := make([]persist.PacketState, math.MaxUint16)
	del := make([]uint16, 0, len(states))
	for i := range states {
		states[i] = published(uint16(i+1), int64(i+1))
		del = append(del, uint16(i+1))
	}
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: states})
	require.Equal(e, states, e.load("c", 1))
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Delete: del[1:]})
	require.Equal(e, states[:1], e.load("c", 1))
}

func checkSessionFenced(e *env) {
	e.save(persist.SessionChange{ClientID: "c", Epoch: 3, Put: []persist.PacketState{published(1, 1)}})
	for _, stale := range []persist.SessionChange{
		{Clear: true}, {Put: []persist.PacketState{published(2, 2)}}, {Delete: []uint16{1}}, {DeleteReceived: []uint16{1}}, {},
	} {
		stale.ClientID, stale.Epoch = "c", 2
		err := e.store.SaveSession(e.ctx, stale)
		require.ErrorIs(e, err, persist.ErrLeaseLost)
		require.NotErrorIs(e, err, persist.ErrUnknownOutcome)
	}
	e.save(persist.SessionChange{ClientID: "c", Epoch: 4, Put: []persist.PacketState{published(2, 2)}})
	require.Equal(e, []persist.PacketState{published(1, 1), published(2, 2)}, e.load("c", 4))
	require.ErrorIs(e, e.store.SaveSession(e.ctx, persist.SessionChange{ClientID: "c", Epoch: 3}), persist.ErrLeaseLost)
}

func checkSessionOrder(e *env) {
	// A packet identifier is given out anew while an older exchange lives, so
	// the order of identifiers is not that of the exchanges [MQTT-4.6.0-1].
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{published(9, 1), published(2, 30), published(5, 4)}})
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{published(1, 200), published(7, 3)}})
	e.save(persist.SessionChange{ClientID: "c", Epoch: 1, Put: []persist.PacketState{{PacketID: 5, Step: persist.StepReleased, Position: 104, Sequence: 4}}})
	var sequences []int64
	for _, state := range e.load("c", 1) {
		sequences = append(sequences, state.Sequence)
	}
	require.Equal(e, []int64{1, 3, 4, 30, 200}, sequences)
}

func checkSessionCrash(e *env) {
	e.load("c", 7)
	e.save(persist.SessionChange{ClientID: "c", Epoch: 7, Put: []persist.PacketState{published(1, 1)}})
	e.crash()
	if !e.h.Durable {
		require.Empty(e, e.load("c", 1))
		return
	}
	require.ErrorIs(e, e.store.SaveSession(e.ctx, persist.SessionChange{ClientID: "c", Epoch: 6, Clear: true}), persist.ErrLeaseLost)
	require.Equal(e, []persist.PacketState{published(1, 1)}, e.load("c", 8))
}

func checkHostileClients(e *env) {
	clients := hostile()
	for i, client := range clients {
		e.save(persist.SessionChange{ClientID: client, Epoch: 1, Put: []persist.PacketState{published(uint16(i+1), 1)}})
	}
	for i, client := range clients {
		require.Equal(e, []persist.PacketState{published(uint16(i+1), 1)}, e.load(client, 1))
	}
}
