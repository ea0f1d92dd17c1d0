package session

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// startAhead begins a session with a Receive Maximum of two, and has six messages
// to send: two are on the wire, and two more are saved.
func startAhead(t *testing.T, level func(i int) byte) (*peer, *ledger, *brokertest.Listener, *brokertest.Conn, []*Outgoing, []uint16) {
	t.Helper()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake(brokertest.ReceiveMaximum(2))
	p.up(0)
	all := make([]*Outgoing, 6)
	for i := range all {
		all[i] = &Outgoing{Message: message("t", level(i), strconv.Itoa(i+1)), Ref: persist.Ref{Position: int64(i + 1)}}
	}
	p.note(func() { p.queue, p.given = append(p.queue, all...), append(p.given, all...) })
	p.link.Engine().Wake()
	first, second := c.ExpectPublish(brokertest.HasPayload("1")).PacketID, c.ExpectPublish(brokertest.HasPayload("2")).PacketID
	return p, book, l, c, all, []uint16{first, second}
}

func exactly(int) byte { return 2 }

// A save takes along the messages that are sent next. When there is room for them
// they are sent at once, for the first time, and again after the connection was lost.
func TestSavedAheadOfTheirTurn(t *testing.T) {
	t.Parallel()
	p, book, l, c, all, ids := startAhead(t, exactly)
	c.SendPubrec(ids[0], 0)
	c.ExpectPubrel(brokertest.HasID(ids[0]))
	saved := book.last()
	require.Len(t, saved, 4)
	require.Equal(t, state(ids[0], persist.StepReleased, 1), saved[0])
	require.Equal(t, state(saved[2].PacketID, persist.StepPublished, 3), saved[2])
	require.Equal(t, state(saved[3].PacketID, persist.StepPublished, 4), saved[3])
	require.Equal(t, 2, p.link.Engine().Snapshot().InFlight)

	saves := book.count()
	c.SendPubcomp(ids[0], 0)
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasID(saved[2].PacketID), brokertest.HasDUP(false))
	require.Equal(t, saves, book.count(), "it needs no save of its own")
	p.end(all[0])

	c.Reset()
	c = l.Accept(t.Context())
	c.Resume(brokertest.ReceiveMaximum(3))
	c.ExpectPublish(brokertest.HasPayload("2"), brokertest.HasID(ids[1]), brokertest.HasDUP(true))
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasID(saved[2].PacketID), brokertest.HasDUP(true))
	c.ExpectPublish(brokertest.HasPayload("4"), brokertest.HasID(saved[3].PacketID), brokertest.HasDUP(false))
}

// Who leaves does not send what was saved ahead, and nobody finds it saved.
func TestLeavesWhatIsAhead(t *testing.T) {
	t.Parallel()
	p, book, _, c, all, ids := startAhead(t, exactly)
	p.mu.Lock()
	p.queue = nil
	p.mu.Unlock()
	idle := make(chan error, 1)
	go func() { idle <- p.link.Engine().WaitIdle(within(t, patience)) }()
	require.Eventually(t, func() bool {
		e := p.link.Engine()
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.leaving
	}, patience, time.Millisecond)
	for _, id := range ids {
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
	require.NoError(t, <-idle)
	p.link.Engine().Wake() // whatever else wakes the writer
	c.ExpectQuiet(50 * time.Millisecond)
	require.NotEmpty(t, book.last())
	e := p.link.Engine()
	e.Settled(all[:2])
	states, stored := e.Packets()
	require.True(t, stored)
	require.Empty(t, states)
	require.Equal(t, all[2:4], e.Withdraw())
}

// The server cannot answer what it was not sent.
func TestAnswerToWhatIsAhead(t *testing.T) {
	t.Parallel()
	p, book, _, c, _, ids := startAhead(t, exactly)
	ahead := book.last()[2].PacketID
	c.SendPubrec(ahead, 0)
	c.ExpectPubrel(brokertest.HasID(ahead), brokertest.HasCode(0x92))
	c.SendPubrec(ids[0], 0x97)
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasID(ahead), brokertest.HasDUP(false))
	require.Equal(t, 2, p.link.Engine().Snapshot().InFlight)
}

// What is too old by its turn is not sent, and its identifier is free.
func TestAheadAndTooOld(t *testing.T) {
	t.Parallel()
	p, book, _, c, all, ids := startAhead(t, exactly)
	ahead := book.last()[2].PacketID
	e := p.link.Engine()
	e.mu.Lock()
	all[2].NotAfter = time.Now().Add(-time.Second)
	e.mu.Unlock()
	c.SendPubrec(ids[0], 0x97)
	c.ExpectPublish(brokertest.HasPayload("4"), brokertest.HasDUP(false))
	require.True(t, p.end(all[2]).Expired)
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Nil(t, e.ids.get(ahead))
	require.Empty(t, e.barrier.burnt)
}

// At QoS 1 nothing is saved, whatever is taken ahead with a message of QoS 2.
func TestAheadAtBothLevels(t *testing.T) {
	t.Parallel()
	p, book, _, c, all, ids := startAhead(t, func(i int) byte { return byte(2 - i%2) })
	require.Equal(t, []persist.PacketState{state(ids[0], persist.StepPublished, 1), state(book.last()[1].PacketID, persist.StepPublished, 3)}, book.last())
	c.SendPuback(ids[1], 0)
	p.end(all[1])
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasDUP(false))
	c.SendPubrec(ids[0], 0)
	c.ExpectPubrel(brokertest.HasID(ids[0]))
	c.SendPubcomp(ids[0], 0)
	fourth := c.ExpectPublish(brokertest.HasPayload("4"), brokertest.HasDUP(false))
	require.Equal(t, byte(1), fourth.QoS)
}

// What the server will not take was never sent: its identifier may be used again.
func TestAheadAndRefused(t *testing.T) {
	t.Parallel()
	p, book, l, c, all, ids := startAhead(t, exactly)
	ahead := book.last()[2].PacketID
	c.Reset()
	l.Accept(t.Context()).Resume(brokertest.MaximumPacketSize(6))
	for _, o := range all {
		p.end(o)
	}
	e := p.link.Engine()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Equal(t, []persist.PacketState{state(ids[0], persist.StepPublished, 1), state(ids[1], persist.StepPublished, 2)}, e.barrier.burnt)
	require.Nil(t, e.ids.get(ahead))
	require.Zero(t, e.fresh)
}

// In a new session nothing was sent before [MQTT-3.3.1-1].
func TestAheadInANewSession(t *testing.T) {
	t.Parallel()
	p, book, l, c, _, _ := startAhead(t, exactly)
	c.Reset()
	c = l.Accept(t.Context())
	release := book.hold()
	c.Handshake()
	book.awaitSave(t)
	c.ExpectQuiet(50 * time.Millisecond) // the store still knows the old session
	release()
	for _, payload := range []string{"1", "2", "3", "4", "5", "6"} {
		c.ExpectPublish(brokertest.HasPayload(payload), brokertest.HasDUP(false))
	}
	require.Equal(t, 6, p.link.Engine().Snapshot().InFlight)
}
