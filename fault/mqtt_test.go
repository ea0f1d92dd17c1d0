package fault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/loopback"
	"github.com/oncemq/oncemq/internal/testenv"
)

// mqttPair gives a client and the server's end of the same connection through an
// MQTT proxy.
func mqttPair(t *testing.T, set func(*fault.MQTT)) (m *fault.MQTT, client, server *net.TCPConn) {
	t.Helper()
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	m = fault.StartMQTT(t, ln.Addr().String())
	if set != nil {
		set(m)
	}
	client = dial(t, m.Proxy)
	require.NoError(t, ln.SetDeadline(time.Now().Add(limit)))
	server, err = ln.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	require.NoError(t, server.SetDeadline(time.Now().Add(limit)))
	return m, client, server
}

const rec = "\x50\x02\x00\x07" // PUBREC

func TestTrapLosesOne(t *testing.T) {
	t.Parallel()
	m, client, server := mqttPair(t, nil)
	sprung := m.SetTrap(fault.Trap{Direction: fault.ToClient, Type: fault.PUBACK, After: 1})
	send(t, client, ack) // the other direction
	receive(t, server, ack)
	send(t, server, rec+ack+other+ack)
	receive(t, client, rec+ack+ack)
	<-sprung
	send(t, server, other)
	receive(t, client, other)
}

func TestTrapCuts(t *testing.T) {
	t.Parallel()
	m, client, server := mqttPair(t, nil)
	m.SetTrap(fault.Trap{Direction: fault.ToClient, Type: fault.PUBREC, Keep: true, Cut: true})
	send(t, server, ack+rec+ack)
	receive(t, client, ack+rec)
	ended(t, client, io.EOF)
	m, client, server = mqttPair(t, nil)
	m.SetTrap(fault.Trap{Direction: fault.ToServer, Instead: []byte(ping), Cut: true})
	send(t, client, ack+ack)
	receive(t, server, ping)
	_, err := server.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestTrapIsReplacedAndCleared(t *testing.T) {
	t.Parallel()
	m, client, server := mqttPair(t, nil)
	first := m.SetTrap(fault.Trap{Direction: fault.ToClient, Type: fault.PUBACK})
	m.SetTrap(fault.Trap{Direction: fault.ToClient, Type: fault.PUBREC})
	m.ClearTrap()
	send(t, server, ack+rec)
	receive(t, client, ack+rec)
	select {
	case <-first:
		require.Fail(t, "a trap sprang that was not set any more")
	default:
	}
}

// What a trap keeps from a client is not shown, and what it keeps from the server is.
func TestTrapAndInspector(t *testing.T) {
	t.Parallel()
	i := newInspector(nil)
	m, client, server := mqttPair(t, func(m *fault.MQTT) { m.Inspect(i) })
	m.SetTrap(fault.Trap{Direction: fault.ToClient, Type: fault.PUBACK})
	send(t, server, ack+rec)
	receive(t, client, rec)
	m.SetTrap(fault.Trap{Direction: fault.ToServer, Type: fault.PUBACK})
	send(t, client, ack+ping)
	receive(t, server, ping)
	require.Equal(t, []string{rec}, i.packets(fault.ToClient))
	require.Equal(t, []string{ack, ping}, i.packets(fault.ToServer))
}

// visit connects to a broker as a client that has a session, and leaves; it tells
// whether the broker knew the session.
func visit(t *testing.T, addr, clientID string) (present bool) {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer func() { _ = nc.Close() }()
	require.NoError(t, nc.SetDeadline(time.Now().Add(limit)))
	expiry := brokertest.Property{ID: brokertest.PropSessionExpiryInterval, Num: 3600}
	connect := brokertest.Packet{
		Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: clientID, KeepAlive: 60},
		Properties: brokertest.Properties{expiry},
	}
	send(t, nc, string(connect.Encode()))
	raw, err := brokertest.ReadRaw(nc)
	require.NoError(t, err)
	p, err := brokertest.Decode(raw)
	require.NoError(t, err)
	require.Equal(t, brokertest.CONNACK, p.Type)
	require.Zero(t, p.Code)
	return p.SessionPresent
}

func TestForgetSessions(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	m := fault.StartMQTT(t, broker.Addr())
	require.False(t, visit(t, m.Addr(), "a"))
	require.False(t, visit(t, m.Addr(), "b"))
	require.False(t, visit(t, broker.Addr(), "not ours"))
	require.True(t, visit(t, m.Addr(), "a"))
	require.Equal(t, []string{"a", "b"}, m.Clients())
	require.NoError(t, m.ForgetSessions(t.Context()))
	require.False(t, visit(t, broker.Addr(), "a"))
	require.False(t, visit(t, m.Addr(), "b"))
	require.True(t, visit(t, broker.Addr(), "not ours"))

	broker.Kill()
	require.ErrorContains(t, m.ForgetSessions(t.Context()), `take over the session of "a"`)
}

func TestFind(t *testing.T) {
	t.Parallel()
	for _, s := range fault.Scenarios() {
		found, err := fault.Find(s.Name)
		require.NoError(t, err)
		require.Equal(t, s.Summary, found.Summary)
		require.Positive(t, s.Lasts)
	}
	_, err := fault.Find("flood")
	require.ErrorIs(t, err, fault.ErrScenario)
}

// restarts is a broker that is told to die and to live.
type restarts struct{ said []string }

func (r *restarts) Kill(context.Context) error  { r.said = append(r.said, "kill"); return nil }
func (r *restarts) Start(context.Context) error { r.said = append(r.said, "start"); return nil }

// Every scenario ends by itself, and leaves nothing: a connection works as before.
func TestPlayLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range fault.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			m, _, _ := mqttPair(t, nil)
			broker := &restarts{}
			require.NoError(t, m.Play(t.Context(), s, fault.PlayOptions{Seed: 1, Scale: 0.005, Broker: broker}))
			if s.Restarts {
				require.Equal(t, []string{"kill", "start"}, broker.said)
			}
			works(t, m)
		})
	}
}

// works shows that packets pass in both directions, as they were sent.
func works(t *testing.T, m *fault.MQTT) {
	t.Helper()
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	m.SetTarget(ln.Addr().String())
	client := dial(t, m.Proxy)
	require.NoError(t, ln.SetDeadline(time.Now().Add(limit)))
	server, err := ln.Accept()
	require.NoError(t, err)
	defer func() { _ = server.Close() }()
	require.NoError(t, server.SetDeadline(time.Now().Add(limit)))
	all := bytes.Repeat([]byte(ack+rec), 100)
	send(t, client, string(all))
	receive(t, server, string(all))
	send(t, server, string(all))
	receive(t, client, string(all))
}

// Where the broker has too little to forget, subscribers are held up until it has
// enough.
func TestPlayHolds(t *testing.T) {
	t.Parallel()
	publishers, publisher, server := mqttPair(t, nil)
	subscribers, subscriber, other := mqttPair(t, nil)
	restart, err := fault.Find("broker-restart")
	require.NoError(t, err)
	held, killed := make(chan struct{}), make(chan struct{})
	var acked atomic.Int64
	var acking sync.WaitGroup
	acking.Go(func() {
		<-held
		send(t, other, long()) // one that is not kept
		receive(t, subscriber, long())
		for {
			select {
			case <-killed:
				return
			case <-time.After(20 * time.Millisecond):
			}
			acked.Add(1)
			send(t, server, ack)
			receive(t, publisher, ack)
		}
	})
	var atKill int64
	broker := &atKilled{func() { atKill = acked.Load(); close(killed) }}
	require.NoError(t, fault.Play(t.Context(), restart, fault.PlayOptions{
		Scale: 0.005, Held: 3, Broker: broker, Observe: func(step string) {
			if step == "subscribers held up" {
				close(held)
			}
		},
	}, publishers, subscribers))
	acking.Wait()
	require.GreaterOrEqual(t, atKill, int64(4))
}

// atKilled is a broker that calls when it is killed.
type atKilled struct{ call func() }

func (a *atKilled) Kill(context.Context) error  { a.call(); return nil }
func (a *atKilled) Start(context.Context) error { return nil }

// A scenario that is given up ends at once, and leaves nothing.
func TestPlayGivenUp(t *testing.T) {
	t.Parallel()
	reason := errors.New("enough")
	for _, s := range fault.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			m, _, _ := mqttPair(t, nil)
			ctx, cancel := context.WithCancelCause(t.Context())
			broker := &restarts{}
			o := fault.PlayOptions{Scale: 100, Broker: broker, Observe: func(string) { cancel(reason) }}
			stop := time.AfterFunc(20*time.Millisecond, func() { cancel(reason) }) // some have no steps
			defer stop.Stop()
			require.ErrorIs(t, m.Play(ctx, s, o), reason)
			if s.Restarts {
				require.Equal(t, []string{"kill", "start"}, broker.said, "it must not be left dead")
			}
			works(t, m)
		})
	}
}

func TestPlayRefuses(t *testing.T) {
	t.Parallel()
	m, _, _ := mqttPair(t, nil)
	cut, err := fault.Find("cut")
	require.NoError(t, err)
	restart, err := fault.Find("broker-restart")
	require.NoError(t, err)
	for want, err := range map[string]error{
		"there is none":           m.Play(t.Context(), fault.Scenario{}, fault.PlayOptions{}),
		"scale -1":                m.Play(t.Context(), cut, fault.PlayOptions{Scale: -1}),
		"scale 101":               m.Play(t.Context(), cut, fault.PlayOptions{Scale: 101}),
		"needs a broker":          m.Play(t.Context(), restart, fault.PlayOptions{}),
		"there is no proxy to pl": fault.Play(t.Context(), cut, fault.PlayOptions{}),
	} {
		require.ErrorIs(t, err, fault.ErrScenario)
		require.ErrorContains(t, err, want)
	}
}

// The same seed loses the same segments.
func TestLossIsRepeatable(t *testing.T) {
	t.Parallel()
	stalls := func(seed uint64) (all []time.Duration) {
		p := fault.Start(t, "127.0.0.1:1")
		p.Loss(fault.ToServer, 0.5, time.Second, seed)
		for range 50 {
			all = append(all, fault.LostFor(p, fault.ToServer))
		}
		return all
	}
	first := stalls(7)
	require.Equal(t, first, stalls(7))
	require.NotEqual(t, first, stalls(8))
	require.Contains(t, first, time.Duration(0))
	require.Contains(t, first, time.Second)
	require.Contains(t, first, 3*time.Second, "lost twice: 1 s, then 2 s")
	require.NotContains(t, first, 2*time.Second)
}
