package autopaho_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// awaitReady asks until the answer is as wanted, and returns it.
func awaitReady(t *testing.T, c *autopaho.Client, ok bool) autopaho.Health {
	t.Helper()
	var h autopaho.Health
	eventually(t, func() bool {
		h = c.Ready(context.Background())
		return h.OK == ok
	}, 60*time.Second, 20*time.Millisecond, "ready is %t", ok)
	return h
}

// awaitReason asks until the answer is no, and that text is among the reasons at least
// so often.
func awaitReason(t *testing.T, c *autopaho.Client, text string, times int) {
	t.Helper()
	eventually(t, func() bool {
		h := c.Ready(context.Background())
		return !h.OK && strings.Count(strings.Join(h.Reasons, "; "), text) >= times
	}, 60*time.Second, 20*time.Millisecond, "the reason %q", text)
}

// TestReady: a relay and a subscriber in front of a broker that falls silent, or is
// gone, and of a store that does not answer, or fails.
func TestReady(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	proxy := fault.Start(t, b.Addr())
	ctx := within(t, 120*time.Second)
	store, faults := persisttest.NewFaulty(memoryStore(t))
	c := client(t, autopaho.Config{Servers: []string{proxy.URL()}, Store: store})
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Handler: newEffects().handle})
	require.NoError(t, err)
	require.Equal(t, autopaho.Health{OK: true}, awaitReady(t, c, true))

	// The connections stand, and nothing comes back. That is asked for within a
	// second, long before the keep alive ends.
	proxy.BlackHole(true)
	awaitReason(t, c, "no answer to PINGREQ within 1s", 2)
	require.NoError(t, proxy.Refuse(true))
	proxy.CutAll(fault.RST)
	awaitReason(t, c, "is reconnecting", 2)
	awaitReason(t, c, "it has not agreed to the subscription to a yet", 1)
	proxy.BlackHole(false)
	require.NoError(t, proxy.Refuse(false))
	awaitReady(t, c, true)

	// A store that answers and fails.
	faults.Add(persisttest.Fault{Op: persisttest.OpLanes, Times: -1})
	awaitReason(t, c, "store: ", 1)
	faults.Heal()
	awaitReady(t, c, true)
	// One that does not answer.
	hold := faults.Hold(persisttest.OpLanes, 1)
	awaitReason(t, c, "store: no answer within 1s", 1)
	hold.Release()
	awaitReady(t, c, true)
	require.True(t, c.Live().OK, "that broker and store were away is no matter of life")

	require.NoError(t, c.Close(ctx))
	require.Equal(t, autopaho.Health{Reasons: []string{"the client is closed"}}, awaitReady(t, c, false))
}

// TestReadyBeforeAnything: a client is not ready before what it is for has begun, and
// says what is missing.
func TestReadyBeforeAnything(t *testing.T) {
	t.Parallel()
	c := client(t, autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}})
	require.Equal(t, autopaho.Health{Reasons: []string{"broker: no connection was asked for yet"}}, c.Ready(context.Background()))
	c = client(t, autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}, Store: memoryStore(t)})
	eventually(t, func() bool {
		return strings.Contains(strings.Join(c.Ready(context.Background()).Reasons, "; "), "connection refused")
	}, 30*time.Second, 20*time.Millisecond, "the reason")
	// One that enqueues only needs no broker.
	c = client(t, autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}})
	require.True(t, c.Ready(context.Background()).OK)
}

// TestLive: a loop that a hook of the user's holds up is found.
func TestLive(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	held, released := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), OnEvent: func(e autopaho.Event) {
		if e.Kind == autopaho.EventDelivered {
			close(held)
			<-released
		}
	}})
	t.Cleanup(release)
	c.SetStuckLimit(50 * time.Millisecond)
	require.True(t, c.Live().OK)
	_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	<-held
	eventually(t, func() bool {
		return strings.Contains(strings.Join(c.Live().Reasons, "; "), "the connection of lane 0 has not moved for ")
	}, 30*time.Second, 5*time.Millisecond, "found")
	release()
	eventually(t, func() bool { return c.Live().OK }, 30*time.Second, 5*time.Millisecond, "it moves again")
}

// TestHealthOfResponses: the session of responses counts as that of subscriptions does.
func TestHealthOfResponses(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	topic := make(chan string, 10)
	responder(t, b.URL(), "work", func(m *autopaho.Received) []autopaho.Message {
		topic <- m.Properties.ResponseTopic
		return echo(m)
	})
	ctx := within(t, 60*time.Second)
	held, released := make(chan struct{}, 1), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	var hold atomic.Bool
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "c", OnEvent: func(e autopaho.Event) {
		if e.Kind == autopaho.EventMessage && e.ClientID == "c-rr" && hold.Load() {
			held <- struct{}{}
			<-released
		}
	}})
	t.Cleanup(release)
	c.SetStuckLimit(50 * time.Millisecond)
	request := autopaho.Message{Topic: "work", QoS: 1}
	_, err := c.Request(ctx, request)
	require.NoError(t, err)
	awaitReady(t, c, true)
	require.True(t, c.Live().OK)

	// The broker forgets the session, and refuses what was agreed to.
	b.SetAnswers(brokertest.Answer{On: brokertest.SUBSCRIBE, Topic: <-topic, Code: 0x87})
	b.Forget()
	awaitReason(t, c, "it has not agreed to the subscription to oncemq/responses/", 1)
	b.SetAnswers()
	b.ResetAll()
	awaitReady(t, c, true)

	hold.Store(true)
	go func() { _, _ = c.Request(ctx, request) }()
	<-held
	eventually(t, func() bool {
		return strings.Contains(strings.Join(c.Live().Reasons, "; "), "the connection of the responses has not moved for ")
	}, 30*time.Second, 5*time.Millisecond, "found")
	release()
	eventually(t, func() bool { return c.Live().OK }, 30*time.Second, 5*time.Millisecond, "it moves again")
}
