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
		{tag: "SESSION-2", name: "a session is replaced whole", run: checkSessionReplaced},
		{tag: "SESSION-2", name: "identifiers of both directions", run: checkDirections},
		{tag: "SESSION-2", name: "all 65,535 identifiers", run: checkAllIdentifiers},
		{tag: "SESSION-2", name: "the slice is the caller's", run: checkSessionSlice},
		{tag: "SESSION-3", name: "a lower epoch changes nothing", run: checkSessionFenced},
		{tag: "SESSION-4", name: "an unreadable session", needs: needsCorruption, run: checkUnreadableSession},
		{tag: "SESSION-5", name: "under a lease", run: checkSessionHeld},
		{tag: "SESSION-6", name: "a late save changes nothing", run: checkSessionLate},
		{tag: "SESSION-6", name: "a lane numbers its saves", run: checkLaneNumbers},
		{tag: "Session", name: "order of exchanges", run: checkSessionOrder},
		{tag: "Session", name: "extreme numbers", run: checkSessionNumbers},
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

func (e *env) save(client string, epoch int64, states ...persist.PacketState) {
	e.Helper()
	require.NoError(e, e.store.SaveSession(e.ctx, persist.Session{ClientID: client, Epoch: epoch, States: states}), "save session")
}

func published(id uint16) persist.PacketState {
	return persist.PacketState{PacketID: id, Step: persist.StepPublished, Position: 100 + int64(id)}
}

func checkSessionEpoch(e *env) {
	require.Empty(e, e.load("c", 5))
	err := e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 4, States: []persist.PacketState{published(1)}})
	require.ErrorIs(e, err, persist.ErrLeaseLost)
	_, err = e.store.LoadSession(e.ctx, "c", 4)
	require.ErrorIs(e, err, persist.ErrLeaseLost)
	require.Empty(e, e.load("c", 5))
	e.save("c", 5, published(1))
	e.save("other", 1, published(2))
	require.Len(e, e.load("c", 6), 1)
	require.ErrorIs(e, e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 5}), persist.ErrLeaseLost)
	require.Len(e, e.load("c", 6), 1)
}

func checkSessionReplaced(e *env) {
	e.load("c", 1)
	e.save("c", 1, published(1), published(2), published(3))
	released := persist.PacketState{PacketID: 2, Step: persist.StepReleased, Position: 102}
	next := []persist.PacketState{released, published(3), published(4)}
	e.save("c", 1, next...)
	require.Equal(e, next, e.load("c", 1))
	e.save("c", 1, next...)
	require.Equal(e, next, e.load("c", 1), "the same once more")
	e.save("c", 1)
	require.Empty(e, e.load("c", 1))

	for _, step := range []persist.PacketStep{0, persist.StepReceived + 1, math.MaxUint8} {
		err := e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 1, States: []persist.PacketState{published(1), {PacketID: 2, Step: step}}})
		require.ErrorIs(e, err, persist.ErrInvalid)
	}
	require.Empty(e, e.load("c", 1), "half a session")
}

func checkDirections(e *env) {
	received := persist.PacketState{PacketID: 5, Step: persist.StepReceived}
	both := []persist.PacketState{published(5), received}
	e.save("c", 1, both...)
	require.Equal(e, both, e.load("c", 1))
	e.save("c", 1, received)
	require.Equal(e, both[1:], e.load("c", 1))
}

func checkAllIdentifiers(e *env) {
	states := make([]persist.PacketState, math.MaxUint16)
	for i := range states {
		states[i] = published(uint16(i + 1))
	}
	e.save("c", 1, states...)
	require.Equal(e, states, e.load("c", 1))
	for i := range states { // none beside the one before it
		states[i].PacketID = uint16(i*2%math.MaxUint16 + 1)
		states[i].Position = int64(i * 7919)
		states[i].Step = persist.PacketStep(i%2 + 1)
	}
	e.save("c", 1, states...)
	require.Equal(e, states, e.load("c", 1))
}

func checkSessionSlice(e *env) {
	states := []persist.PacketState{published(1), published(2)}
	e.save("c", 1, states...)
	states[0] = published(9)
	loaded := e.load("c", 1)
	require.Equal(e, []persist.PacketState{published(1), published(2)}, loaded)
	loaded[0] = published(9)
	require.Equal(e, []persist.PacketState{published(1), published(2)}, e.load("c", 1))
}

func checkSessionFenced(e *env) {
	e.save("c", 3, published(1))
	for _, stale := range [][]persist.PacketState{nil, {published(2)}, {published(1)}} {
		err := e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 2, States: stale})
		require.ErrorIs(e, err, persist.ErrLeaseLost)
		require.NotErrorIs(e, err, persist.ErrUnknownOutcome)
	}
	require.Equal(e, []persist.PacketState{published(1)}, e.load("c", 3))
	e.save("c", 4, published(2))
	require.Equal(e, []persist.PacketState{published(2)}, e.load("c", 4))
	require.ErrorIs(e, e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 3}), persist.ErrLeaseLost)
}

func checkUnreadableSession(e *env) {
	e.save("c", 1, published(1), published(2))
	require.NoError(e, e.backend.(Corrupter).CorruptSession(e.ctx, "c"))
	e.crash()
	states, err := e.store.LoadSession(e.ctx, "c", 2)
	require.ErrorIs(e, err, persist.ErrCorrupt)
	require.Empty(e, states, "a guess in place of what cannot be read")
	require.ErrorIs(e, e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 1}), persist.ErrLeaseLost)
	e.save("c", 2, published(3))
	require.Equal(e, []persist.PacketState{published(3)}, e.load("c", 2))
}

func checkSessionHeld(e *env) {
	l := e.acquire(0)
	states := []persist.PacketState{published(1), published(2)}
	require.NoError(e, l.SaveSession(e.ctx, "c", states))
	require.Equal(e, states, e.load("c", l.Epoch()))
	err := l.SaveSession(e.ctx, "c", []persist.PacketState{{PacketID: 1, Step: persist.StepReceived + 1}})
	require.ErrorIs(e, err, persist.ErrInvalid)
	e.load("c", l.Epoch()+1)
	require.ErrorIs(e, l.SaveSession(e.ctx, "c", nil), persist.ErrLeaseLost, "a higher epoch has the session")

	// Nobody has touched the other session, and its epoch tells nothing.
	require.NoError(e, l.SaveSession(e.ctx, "other", states))
	require.NoError(e, l.Release(e.ctx))
	require.ErrorIs(e, l.SaveSession(e.ctx, "other", nil), persist.ErrLeaseLost, "released")
	e.acquire(0)
	err = l.SaveSession(e.ctx, "other", nil)
	require.ErrorIs(e, err, persist.ErrLeaseLost, "taken over")
	require.NotErrorIs(e, err, persist.ErrUnknownOutcome)
	require.Equal(e, states, e.load("other", l.Epoch()))
}

func checkSessionLate(e *env) {
	save := func(epoch, number int64, states ...persist.PacketState) {
		e.Helper()
		require.NoError(e, e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: epoch, Number: number, States: states}))
	}
	is := func(epoch int64, states ...persist.PacketState) {
		e.Helper()
		require.ElementsMatch(e, states, e.load("c", epoch))
	}
	released := persist.PacketState{PacketID: 1, Step: persist.StepReleased, Position: 101}
	save(3, 8, published(1))
	save(3, 10, released)
	for range 2 { // whether it was loaded in between or not
		save(3, 9, published(1))
		save(3, 0)
		is(3, released)
	}
	e.crash()
	if e.h.Durable {
		save(3, 9, published(1))
		is(3, released)
	}
	save(3, 10, published(2))
	is(3, published(2))
	save(3, 1<<53-1, published(3))
	save(3, 1<<53-2, published(4))
	is(3, published(3))

	// With a higher epoch they begin anew, whether it loads or saves.
	is(4, published(3))
	save(4, 1, published(5))
	is(4, published(5))
	save(5, 0, published(6))
	is(5, published(6))
	err := e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 4, Number: 99})
	require.ErrorIs(e, err, persist.ErrLeaseLost, "a lower epoch")
	err = e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 5, Number: -1})
	require.ErrorIs(e, err, persist.ErrInvalid)
	is(5, published(6))
}

// The lane's own saves that are late come to the store as any other does.
func checkLaneNumbers(e *env) {
	l := e.acquire(0)
	late := func(number int64) {
		e.Helper()
		session := persist.Session{ClientID: "c", Epoch: l.Epoch(), Number: number, States: []persist.PacketState{published(9)}}
		require.NoError(e, e.store.SaveSession(e.ctx, session))
	}
	var states []persist.PacketState
	for n := range int64(3) {
		states = append(states, published(uint16(n+1)))
		require.NoError(e, l.SaveSession(e.ctx, "c", states))
		late(n)
		require.Equal(e, states, e.load("c", l.Epoch()))
	}
	late(3) // of the same number, and so not of an earlier call
	require.Equal(e, []persist.PacketState{published(9)}, e.load("c", l.Epoch()))
	late(5)
	require.NoError(e, l.SaveSession(e.ctx, "c", states), "the fourth, which is late now")
	require.Equal(e, []persist.PacketState{published(9)}, e.load("c", l.Epoch()))

	// The next holder's first comes after all of them.
	require.NoError(e, l.Release(e.ctx))
	next := e.acquire(0)
	require.Equal(e, []persist.PacketState{published(9)}, e.load("c", next.Epoch()))
	require.NoError(e, next.SaveSession(e.ctx, "c", states))
	require.Equal(e, states, e.load("c", next.Epoch()))
}

func checkSessionOrder(e *env) {
	// A packet identifier is given out anew while an older exchange lives, so
	// the order of identifiers is not that of the exchanges [MQTT-4.6.0-1], and
	// what was refused for a time is sent after what came later.
	states := []persist.PacketState{published(9), published(2), {PacketID: 5, Step: persist.StepReleased, Position: 1}, published(6), published(7), published(1)}
	e.save("c", 1, states...)
	require.Equal(e, states, e.load("c", 1))
}

func checkSessionNumbers(e *env) {
	states := []persist.PacketState{
		{PacketID: math.MaxUint16, Step: persist.StepPublished, Position: math.MaxInt64},
		{PacketID: 1, Step: persist.StepReleased, Position: 0},
		{PacketID: 2, Step: persist.StepReleased, Position: math.MaxInt64 - 1},
		{PacketID: 3, Step: persist.StepReleased, Position: math.MaxInt64},
	}
	e.save("c", 1, states...)
	require.Equal(e, states, e.load("c", math.MaxInt64>>11)) // exact in Lua's numbers
}

func checkSessionCrash(e *env) {
	e.load("c", 7)
	e.save("c", 7, published(1))
	e.crash()
	if !e.h.Durable {
		require.Empty(e, e.load("c", 1))
		return
	}
	require.ErrorIs(e, e.store.SaveSession(e.ctx, persist.Session{ClientID: "c", Epoch: 6}), persist.ErrLeaseLost)
	require.Equal(e, []persist.PacketState{published(1)}, e.load("c", 8))
}

func checkHostileClients(e *env) {
	clients := hostile()
	for i, client := range clients {
		e.save(client, 1, published(uint16(i+1)))
	}
	for i, client := range clients {
		require.Equal(e, []persist.PacketState{published(uint16(i + 1))}, e.load(client, 1))
	}
}
