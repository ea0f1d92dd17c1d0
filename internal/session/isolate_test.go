package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// poisoned makes a broker that resets the connection, without a word, when it is
// sent a message of the topic "bad": before it has taken it, after it has taken
// it, or, at QoS 2, when the exchange comes to its end.
func poisoned(t *testing.T, when brokertest.Type, action brokertest.Action) *brokertest.Broker {
	t.Helper()
	var mu sync.Mutex
	bad := make(map[uint16]bool)
	return startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			mu.Lock()
			defer mu.Unlock()
			if d != brokertest.In {
				return brokertest.Pass
			}
			if p.Type == brokertest.PUBLISH {
				bad[p.PacketID] = p.Topic == "bad"
			}
			if p.Type == when && bad[p.PacketID] {
				return action
			}
			return brokertest.Pass
		},
	})
}

// A server that drops the connection without a word whenever it is sent a certain
// message, as one does that crashes over it: the message is found among those in
// flight with it, and fails; the next one that is as bad as well; all others
// arrive. Before, the lane stood still for ever.
func TestMessageThatMakesTheServerDropUs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		level  byte
		when   brokertest.Type
		action brokertest.Action
	}{
		{"QoS 1 before it is taken", 1, brokertest.PUBLISH, brokertest.Cut},
		{"QoS 1 after it is taken", 1, brokertest.PUBLISH, brokertest.CutAfter},
		{"QoS 2 before it is taken", 2, brokertest.PUBLISH, brokertest.Cut},
		{"QoS 2 after it is taken", 2, brokertest.PUBLISH, brokertest.CutAfter},
		{"QoS 2 when it is released", 2, brokertest.PUBREL, brokertest.Cut},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := poisoned(t, test.when, test.action)
			p := start(t, b.URL())
			ms := messages(test.level, 0, 30)
			for _, i := range []int{11, 12, 25} { // two in a row, and one more
				ms[i] = message("bad", test.level, fmt.Sprintf("bad %d", i))
			}
			all := p.send(ms...)
			for i, o := range all {
				end := p.end(o)
				if ms[i].Topic != "bad" {
					require.Equal(t, qos.Success, end.Class, "%s: 0x%02X %s", ms[i].Payload, end.Code, end.Reason)
					continue
				}
				require.Equal(t, qos.Permanent, end.Class)
				require.Contains(t, end.Reason, "drops the connection without a word")
			}
			require.Empty(t, b.Violations())
			// The identifiers of QoS 2 messages that were given up are burnt: the
			// server may have kept the exchanges.
			e := p.link.Engine()
			e.mu.Lock()
			burnt := len(e.barrier.burnt)
			e.mu.Unlock()
			require.Equal(t, 3*int(test.level-1), burnt)
			p.allEnd(p.send(messages(test.level, 100, 50)...))
		})
	}
}

// A server that drops whoever sends anything fails no more than a few messages,
// and what is left is there at once when it is well.
func TestServerThatDropsForEverything(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ill, drops := true, 0
	b := startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			mu.Lock()
			defer mu.Unlock()
			if ill && d == brokertest.In && p.Type == brokertest.PUBLISH {
				drops++
				return brokertest.Cut
			}
			return brokertest.Pass
		},
	})
	p := start(t, b.URL())
	all := p.send(messages(1, 0, 20)...)
	p.wait("condemnations", func() bool { return len(p.order) >= maxCondemned })
	before := b.Connections()
	p.wait("more connections after them", func() bool { return b.Connections() > before+2*(maxDrops+maxTrials) })
	p.mu.Lock()
	require.Len(t, p.order, maxCondemned)
	p.mu.Unlock()
	mu.Lock()
	ill = false
	mu.Unlock()
	p.allEnd(all[maxCondemned:])
}

// A server, or a network, that drops everybody, busy or not, says nothing about
// the messages: none fails, however often it happens to one that is in flight.
func TestServerThatDropsEverybody(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.HoldAcks()
	p := start(t, b.URL())
	all := p.send(messages(1, 0, 5)...)
	for dropped := 0; dropped < 30; {
		n := b.Connections()
		require.NoError(t, b.Wait(within(t, patience), func() bool { return b.Connections() > n || len(b.Connected()) > 0 }))
		// Some time in the life of the connection: before, with or after the suspect.
		<-time.After(time.Duration(dropped%10) * 5 * time.Millisecond)
		b.ResetAll()
		dropped++
	}
	p.mu.Lock()
	require.Empty(t, p.order, "a message was blamed for the network")
	p.mu.Unlock()
	b.ReleaseAcks()
	p.allEnd(all)
}

// What counts as a drop: the other side or the network ended the connection.
// That we did, that nothing came in time, and that the server said why, do not.
func TestWasDropped(t *testing.T) {
	t.Parallel()
	read := func(err error) error { return &transportError{"read from server", err} }
	for _, err := range []error{
		read(io.EOF), read(io.ErrUnexpectedEOF),
		read(&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}),
		&transportError{"write to server", &net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}},
	} {
		require.True(t, wasDropped(err), "%v", err)
	}
	for _, err := range []error{
		nil, errNoAnswer, protocolFault("x"), &DisconnectError{Code: 0x82}, errors.New("no acknowledgement within 1s"),
		read(net.ErrClosed), read(os.ErrDeadlineExceeded),
		read(&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}),
	} {
		require.False(t, wasDropped(err), "%v", err)
	}
}

// The experiment with one message, step by step and by a clock of its own: what
// counts against it, and what does not.
func TestTrial(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		// before and after tell, for how long the connection had lived without
		// the message, as a multiple of what it had to, and then with it.
		before, after func(quiet time.Duration) time.Duration
		between       func(e *Engine)
		condemned     bool
	}{
		"ends at once":             {condemned: true},
		"ends just as soon":        {after: func(quiet time.Duration) time.Duration { return quiet }, condemned: true},
		"lives longer with it":     {after: func(quiet time.Duration) time.Duration { return quiet + 1 }},
		"lived too short a time":   {before: func(quiet time.Duration) time.Duration { return quiet - 1 }},
		"ends without it, as well": {between: func(e *Engine) { e.gen++; e.dropped(time.Now()) }},
		"SUBSCRIBE under way":      {between: func(e *Engine) { e.requests[9] = nil }},
		"another in flight, too": {between: func(e *Engine) {
			e.flights.push(&Outgoing{Message: message("t", 1, "other"), gen: e.gen + 1, step: persist.StepPublished})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := NewEngine(testConfig("mqtt://x").Engine)
			o := &Outgoing{Message: message("t", 1, "m")}
			e.flights.push(o)
			same := func(quiet time.Duration) time.Duration { return quiet }
			if test.before == nil {
				test.before = same
			}
			if test.after == nil {
				test.after = func(time.Duration) time.Duration { return 0 }
			}
			now := time.Now()
			var ended []Completion
			rounds := 0
			for ; rounds < 12 && len(ended) == 0; rounds++ {
				if test.between != nil {
					test.between(e)
				}
				var quiet time.Duration
				if o.trial != nil {
					quiet = o.trial.quiet
				}
				e.gen++
				e.since = now
				o.gen, o.step, o.sentAt = e.gen, persist.StepPublished, now.Add(test.before(quiet))
				require.Equal(t, max(0, quiet), max(0, e.quiet(o, now)))
				require.LessOrEqual(t, e.quiet(o, now.Add(quiet)), time.Duration(0))
				now = o.sentAt.Add(test.after(quiet))
				ended = e.dropped(now)
				now = now.Add(ms)
			}
			require.Equal(t, test.condemned, len(ended) == 1)
			if test.condemned {
				require.Equal(t, maxDrops+1+maxTrials, rounds)
				require.True(t, e.progress)
			}
		})
	}
}
