package session

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// ledger is a store of packet state under the control of a test.
type ledger struct {
	mu    sync.Mutex // guards the following
	saved [][]persist.PacketState
	block chan struct{} // a save waits for it; nil for none
	err   error
	asked chan struct{} // gets one for each save that begins
}

func newLedger() *ledger { return &ledger{asked: make(chan struct{}, 1000)} }

func (l *ledger) save(ctx context.Context, states []persist.PacketState) error {
	l.mu.Lock()
	block := l.block
	l.mu.Unlock()
	l.asked <- struct{}{}
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.saved = append(l.saved, slices.Clone(states))
	return nil
}

// hold makes saves wait until the function that it returns is called.
func (l *ledger) hold() (release func()) {
	block := make(chan struct{})
	l.mu.Lock()
	l.block = block
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		l.block = nil
		l.mu.Unlock()
		close(block)
	}
}

func (l *ledger) last() []persist.PacketState {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.saved) == 0 {
		return nil
	}
	return l.saved[len(l.saved)-1]
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.saved)
}

func (l *ledger) awaitSave(t *testing.T) {
	t.Helper()
	select {
	case <-l.asked:
	case <-time.After(patience):
		require.FailNow(t, "nothing is saved")
	}
}

func state(id uint16, step persist.PacketStep, position int64) persist.PacketState {
	return persist.PacketState{PacketID: id, Step: step, Position: position}
}

// startSaved begins a link whose packet state goes to a ledger.
func startSaved(t *testing.T, server string, restored ...Exchange) (*peer, *ledger) {
	t.Helper()
	l := newLedger()
	p := start(t, server, func(c *Config) {
		c.Engine.Save, c.Engine.Restored = l.save, restored
		c.CleanStart = len(restored) == 0
	})
	return p, l
}

// placed queues messages at positions from one on.
func (p *peer) placed(level byte, from, n int) []*Outgoing {
	all := make([]*Outgoing, n)
	for i := range all {
		all[i] = &Outgoing{
			Message: message("t", level, strconv.Itoa(from+i)), Ref: persist.Ref{Position: int64(from + i)},
		}
	}
	p.mu.Lock()
	p.queue = append(p.queue, all...)
	p.given = append(p.given, all...)
	p.mu.Unlock()
	p.link.Engine().Wake()
	return all
}

// No PUBLISH is on the wire before it is saved as published, and no PUBREL before
// it is saved as released. The reader goes on meanwhile.
func TestSavedBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	release := book.hold()
	all := p.placed(2, 1, 2)
	book.awaitSave(t)
	p.link.Engine().Wake() // whatever else wakes the writer
	c.ExpectQuiet(50 * time.Millisecond)
	release()
	first, second := c.ExpectPublish(brokertest.HasPayload("1")).PacketID, c.ExpectPublish(brokertest.HasPayload("2")).PacketID
	require.Equal(t, []persist.PacketState{state(first, persist.StepPublished, 1), state(second, persist.StepPublished, 2)}, book.last())

	c.SendPubrec(second, 0)
	c.ExpectPubrel(brokertest.HasID(second))
	require.Equal(t, []persist.PacketState{state(first, persist.StepPublished, 1), state(second, persist.StepReleased, 2)}, book.last())

	release = book.hold()
	for len(book.asked) > 0 {
		<-book.asked
	}
	c.SendPubrec(first, 0)
	book.awaitSave(t)
	c.SendPubcomp(second, 0)
	p.end(all[1]) // while the store does not answer
	c.ExpectQuiet(50 * time.Millisecond)
	release()
	c.ExpectPubrel(brokertest.HasID(first))
	c.SendPubcomp(first, 0)
	p.allEnd(all)
}

// A buffer without QoS 2 costs no write of the store.
func TestNothingToSave(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	all := append(p.placed(1, 1, 3), p.placed(0, 4, 3)...)
	for range 6 {
		if q := c.ExpectPublish(); q.QoS == 1 {
			c.SendPuback(q.PacketID, 0)
		}
	}
	p.allEnd(all)
	c.Reset()
	l.Accept(t.Context()).Handshake()
	p.up(1)
	require.Zero(t, book.count())
}

// An exchange that has ended stays saved, and its packet identifier taken, until
// it is settled: a crash in between must find it.
func TestEndedExchangeIsKeptUntilSettled(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	finish := func(o *Outgoing) uint16 {
		id := c.ExpectPublish().PacketID
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
		p.end(o)
		return id
	}
	a := p.placed(2, 1, 1)
	first := finish(a[0])
	e := p.link.Engine()
	e.mu.Lock()
	e.lastID = first - 1 // the next turn would be its own
	e.mu.Unlock()
	b := p.placed(2, 2, 1)
	second := finish(b[0])
	require.NotEqual(t, first, second)
	require.Equal(t, []persist.PacketState{state(first, persist.StepReleased, 1), state(second, persist.StepReleased, 2)}, book.last())

	c.SendPubrec(first, 0) // again, though it is over
	c.ExpectPubrel(brokertest.HasID(first), brokertest.HasCode(0x92))
	c.SendPubcomp(first, 0)

	e.Settled(a)
	e.Settled(a) // no harm
	e.mu.Lock()
	e.lastID = first - 1
	e.mu.Unlock()
	third := p.placed(2, 3, 1)
	require.Equal(t, first, c.ExpectPublish().PacketID, "a settled identifier is free")
	require.Equal(t, []persist.PacketState{state(second, persist.StepReleased, 2), state(first, persist.StepPublished, 3)}, book.last())
	require.True(t, p.open(third[0]))
	e.Settled(b)
	states, stored := e.Packets()
	require.True(t, stored)
	require.Equal(t, []persist.PacketState{state(first, persist.StepPublished, 3)}, states)
}

// What the server refuses with PUBREC is not in flight any more: it is sent as new,
// if it is sent again.
func TestRefusedExchangeIsForgotten(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	all := p.placed(2, 1, 1)
	c.SendPubrec(c.ExpectPublish().PacketID, 0x97)
	p.end(all[0])
	p.placed(2, 2, 1)
	id := c.ExpectPublish(brokertest.HasPayload("2")).PacketID
	require.Equal(t, []persist.PacketState{state(id, persist.StepPublished, 2)}, book.last())
}

// The exchanges of an earlier process go on where they stood, in their order and
// before anything newer, under their identifiers. One that was released and whose
// message is gone is ended; the identifier of one that was not is never used again,
// and both are saved for as long as that is so.
func TestRestoredExchanges(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL(),
		Exchange{PacketState: state(7, persist.StepReleased, 1)},
		Exchange{PacketState: state(3, persist.StepPublished, 2)},
		Exchange{PacketState: state(9, persist.StepReleased, 3), Gone: true},
		Exchange{PacketState: state(1, persist.StepPublished, 4), Gone: true},
		Exchange{PacketState: state(2, persist.StepPublished, 5)},
		Exchange{PacketState: state(4, persist.StepReceived, 0)},
	)
	c := l.Accept(t.Context())
	require.False(t, c.ExpectConnect().Connect.CleanStart)
	c.SendConnack(true, 0)
	c.ExpectPubrel(brokertest.HasID(9))
	c.SendPubrec(3, 0) // its message was not handed out yet
	c.SendPubcomp(9, 0)
	flushed(c)

	all := append(p.placed(2, 1, 2), p.placed(2, 5, 2)...) // the last is new
	c.ExpectPubrel(brokertest.HasID(7))
	c.ExpectPublish(brokertest.HasID(3), brokertest.HasDUP(true), brokertest.HasPayload("2"))
	c.ExpectPublish(brokertest.HasID(2), brokertest.HasDUP(true), brokertest.HasPayload("5"))
	fresh := c.ExpectPublish(brokertest.HasDUP(false), brokertest.HasPayload("6")).PacketID
	require.NotContains(t, []uint16{7, 3, 1, 2}, fresh)
	require.Equal(t, []persist.PacketState{
		state(1, persist.StepPublished, 4), state(7, persist.StepReleased, 1), state(3, persist.StepPublished, 2),
		state(2, persist.StepPublished, 5), state(fresh, persist.StepPublished, 6),
	}, book.last())
	c.SendPubcomp(7, 0x92) // the server had ended it
	p.allEnd(all[:1])
	for _, id := range []uint16{3, 2, fresh} {
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
	p.allEnd(all)
	p.link.Engine().Settled(all)
	e := p.link.Engine()
	e.mu.Lock()
	e.lastID = 0
	e.mu.Unlock()
	p.placed(2, 7, 1)
	require.Equal(t, uint16(2), c.ExpectPublish().PacketID, "1 is burnt")
	require.Equal(t, []persist.PacketState{state(1, persist.StepPublished, 4), state(2, persist.StepPublished, 7)}, book.last())
}

// What an earlier process had in flight stays saved while its message has not been
// handed out, whatever else is sent meanwhile.
func TestRestoredExchangesStaySaved(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL(),
		Exchange{PacketState: state(5, persist.StepReleased, 1)}, Exchange{PacketState: state(2, persist.StepPublished, 2)})
	c := l.Accept(t.Context())
	c.Resume()
	p.placed(2, 9, 1)
	id := c.ExpectPublish(brokertest.HasDUP(false)).PacketID
	require.Equal(t, []persist.PacketState{
		state(id, persist.StepPublished, 9), state(5, persist.StepReleased, 1), state(2, persist.StepPublished, 2),
	}, book.last())
}

// A message turns out to be gone after the link has begun.
func TestRestoredMessageIsGoneLater(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL(),
		Exchange{PacketState: state(1, persist.StepReleased, 1)}, Exchange{PacketState: state(2, persist.StepPublished, 2)})
	c := l.Accept(t.Context())
	c.Resume()
	flushed(c)
	p.link.Engine().Gone(1, 2, 3)
	c.ExpectPubrel(brokertest.HasID(1))
	c.SendPubcomp(1, 0)
	flushed(c)
	p.placed(2, 9, 1)
	id := c.ExpectPublish(brokertest.HasDUP(false)).PacketID
	require.Equal(t, []persist.PacketState{state(2, persist.StepPublished, 2), state(id, persist.StepPublished, 9)}, book.last())
	require.NoError(t, p.link.Close(within(t, time.Second)))
	require.Len(t, p.link.Engine().Withdraw(), 1, "an exchange without a message is nobody's")
}

// A server that has lost the session gets everything as new, and the store forgets
// the old exchanges before anything is written: the next process would take the new
// session for the old one.
func TestLostSessionIsForgottenFirst(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL(),
		Exchange{PacketState: state(1, persist.StepReleased, 1)}, Exchange{PacketState: state(2, persist.StepPublished, 2)},
		Exchange{PacketState: state(3, persist.StepReleased, 3), Gone: true}, Exchange{PacketState: state(4, persist.StepPublished, 4), Gone: true})
	release := book.hold()
	p.placed(1, 0, 1)
	c := l.Accept(t.Context())
	c.Handshake()
	book.awaitSave(t)
	c.ExpectQuiet(50 * time.Millisecond)
	release()
	c.ExpectPublish(brokertest.HasQoS(1))
	require.Empty(t, book.last())
	require.Equal(t, 1, book.count())
	all := p.placed(2, 1, 2)
	ids := []uint16{
		c.ExpectPublish(brokertest.HasDUP(false), brokertest.HasPayload("1")).PacketID,
		c.ExpectPublish(brokertest.HasDUP(false), brokertest.HasPayload("2")).PacketID,
	}
	for _, id := range ids {
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
	p.allEnd(all)

	// What has ended has ended in the next session, too, as long as it is not
	// settled.
	c.Reset()
	c = l.Accept(t.Context())
	c.Handshake()
	c.ExpectPublish(brokertest.HasQoS(1))
	p.placed(2, 5, 1)
	c.ExpectPublish(brokertest.HasPayload("5"))
	require.Len(t, book.last(), 3)
	require.Equal(t, []int64{1, 2, 5}, []int64{book.last()[0].Position, book.last()[1].Position, book.last()[2].Position})
}

// The session is another's: nothing that was not saved is written, then or later.
func TestNothingIsWrittenOnceTheSessionIsLost(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, book := startSaved(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	first := p.placed(2, 1, 1)
	id := c.ExpectPublish().PacketID
	book.mu.Lock()
	book.err = errors.New("lease was lost")
	book.mu.Unlock()
	book.awaitSave(t) // that of the PUBLISH
	c.SendPubrec(id, 0)
	book.awaitSave(t)
	p.placed(1, 2, 1)
	require.NoError(t, p.link.Engine().WaitIdle(within(t, patience)), "nobody waits for what does not come")
	require.True(t, p.open(first[0]))
	c.ExpectQuiet(50 * time.Millisecond)
	_, stored := p.link.Engine().Packets()
	require.False(t, stored, "the last word is not ours")
}

// A store that does not answer for long is not the server's fault.
func TestSlowSaveDoesNotStall(t *testing.T) {
	t.Parallel()
	e := NewEngine(testConfig("mqtt://x").Engine)
	e.conn, e.gen = &conn{engine: e}, 1
	now := time.Now()
	e.flights.push(&Outgoing{Message: message("t", 2, "m"), gen: 1, sentAt: now.Add(-time.Hour)})
	e.barrier.saving = true
	require.False(t, e.dropStalled(now, time.Minute))
	e.barrier.saving, e.barrier.passed = false, now.Add(-time.Second)
	require.False(t, e.dropStalled(now, time.Minute))
	e.barrier.passed = now.Add(-2 * time.Minute)
	e.conn = nil // would be hung up
	require.False(t, e.dropStalled(now, time.Minute))
	require.Greater(t, now.Sub(e.flights.head.sentAt), time.Minute)
}

// What was to be written after DISCONNECT is not [MQTT-3.14.4-1].
func TestNothingIsWrittenAfterDisconnect(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p, _ := startSaved(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	p.link.latest().clean.Store(true)
	all := p.placed(1, 1, 1)
	p.wait("the writer", func() bool { return len(p.queue) == 0 })
	require.Error(t, p.link.Engine().WaitIdle(within(t, 50*time.Millisecond)))
	c.ExpectQuiet(50 * time.Millisecond)
	require.True(t, p.open(all[0]))
}
