package session

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// startWaiting begins a session in which a message of QoS 2 is on the wire, and two more
// wait for the save that knows of them, until release is called.
func startWaiting(t *testing.T) (p *peer, book *ledger, l *brokertest.Listener, c *brokertest.Conn, all []*Outgoing, id uint16, release func()) {
	t.Helper()
	l = brokertest.Listen(t)
	p, book = startSaved(t, l.URL())
	c = l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	all = p.placed(2, 1, 1)
	id = c.ExpectPublish(brokertest.HasPayload("1")).PacketID
	for len(book.asked) > 0 {
		<-book.asked
	}
	release = book.hold()
	all = append(all, p.placed(2, 2, 2)...)
	book.awaitSave(t)
	return p, book, l, c, all, id, release
}

// While a save is under way the writer goes on with what is durable, and what came
// meanwhile is saved together afterwards.
func TestWriterGoesOnDuringASave(t *testing.T) {
	t.Parallel()
	p, book, _, c, all, id, release := startWaiting(t)
	saves := book.count()
	c.SendPubrec(id, 0)
	c.SendPubrec(999, 0) // unknown: the answer needs no save, and is in its turn
	c.ExpectQuiet(50 * time.Millisecond)
	release()
	for _, payload := range []string{"2", "3"} {
		c.ExpectPublish(brokertest.HasPayload(payload), brokertest.HasDUP(false))
	}
	c.ExpectPubrel(brokertest.HasID(id))
	c.ExpectPubrel(brokertest.HasID(999), brokertest.HasCode(0x92))
	require.Equal(t, saves+2, book.count())
	c.SendPubcomp(id, 0)
	p.end(all[0])
}

// A connection that is lost during a save: what was not sent goes out for the first
// time on the next one, and what was is sent again.
func TestConnectionLostDuringASave(t *testing.T) {
	t.Parallel()
	_, _, l, c, _, id, release := startWaiting(t)
	c.Reset()
	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPublish(brokertest.HasPayload("1"), brokertest.HasID(id), brokertest.HasDUP(true))
	c.ExpectQuiet(50 * time.Millisecond)
	release()
	c.ExpectPublish(brokertest.HasPayload("2"), brokertest.HasDUP(false))
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasDUP(false))
}

// In a new session nothing was sent before [MQTT-3.3.1-1], and nothing is sent before
// the store has forgotten the old one.
func TestNewSessionDuringASave(t *testing.T) {
	t.Parallel()
	p, _, l, c, _, _, release := startWaiting(t)
	c.Reset()
	c = l.Accept(t.Context())
	c.Handshake()
	p.placed(1, 4, 1)
	c.ExpectQuiet(50 * time.Millisecond)
	release()
	for _, payload := range []string{"1", "2", "3", "4"} {
		c.ExpectPublish(brokertest.HasPayload(payload), brokertest.HasDUP(false))
	}
	require.Equal(t, 4, p.link.Engine().Snapshot().InFlight)
}

// The server cannot answer what it was not sent.
func TestAnswerToWhatWasNotSent(t *testing.T) {
	t.Parallel()
	p, _, _, c, _, _, release := startWaiting(t)
	e := p.link.Engine()
	e.mu.Lock()
	unsent := e.flights.tail.packetID
	e.mu.Unlock()
	c.SendPubrec(unsent, 0)
	c.ExpectPubrel(brokertest.HasID(unsent), brokertest.HasCode(0x92))
	release()
	c.ExpectPublish(brokertest.HasPayload("2"))
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasID(unsent), brokertest.HasDUP(false))
}

// What is given up before it was sent leaves its identifier free.
func TestRefusedBeforeItWasSent(t *testing.T) {
	t.Parallel()
	p, _, l, c, all, id, release := startWaiting(t)
	c.Reset()
	l.Accept(t.Context()).Resume(brokertest.MaximumPacketSize(6))
	p.end(all[0])
	release()
	p.end(all[1])
	p.end(all[2])
	e := p.link.Engine()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Equal(t, []persist.PacketState{state(id, persist.StepPublished, 1)}, e.barrier.burnt)
}

// A link that ends before a message was sent does not leave it in the session.
func TestUnsentIsNotLeftInTheSession(t *testing.T) {
	t.Parallel()
	p, _, _, _, all, id, release := startWaiting(t)
	defer release()
	states, stored := p.link.Engine().Packets()
	require.True(t, stored)
	require.Equal(t, []persist.PacketState{state(id, persist.StepPublished, 1)}, states)
	require.Equal(t, all, p.link.Engine().Withdraw())
}

// A save that was given up with the link is not the last word: what is left is saved
// once more, unless the session is another's.
func TestPacketsAfterASaveThatFailed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		ours bool
	}{
		"given up":  {fmt.Errorf("drain stops: %w", context.Canceled), true},
		"another's": {errors.New("lease was lost"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, book, _, _, _, id, release := startWaiting(t)
			book.mu.Lock()
			book.err = test.err
			book.mu.Unlock()
			release()
			e := p.link.Engine()
			require.NoError(t, e.WaitIdle(within(t, patience)))
			require.NoError(t, p.link.Close(within(t, patience)))
			states, worth := e.Packets()
			require.Equal(t, test.ours, worth)
			require.Equal(t, []persist.PacketState{state(id, persist.StepPublished, 1)}, states)
		})
	}
}
