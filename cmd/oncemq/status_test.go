package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// The store's view, with what waits in it, and the broker if one is named.
func TestStatus(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := fileStore(t)
	got := runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "x", "--no-wait"))
	require.Equal(t, exitDone, got.code, got.stderr)

	got = runOnce(t, command("status", "--store", store, "--json"))
	require.Equal(t, exitDone, got.code, got.stderr)
	all := objects[lookObject](t, got.stdout)
	require.Len(t, all, 1)
	require.EqualValues(t, 1, all[0].Store.Pending)
	require.NotEmpty(t, all[0].Store.Lanes)
	require.Nil(t, all[0].Broker)

	got = runOnce(t, command("status", "--store", store, "--broker", b.URL(), "--json"))
	require.Equal(t, exitDone, got.code, got.stderr)
	broker := objects[lookObject](t, got.stdout)[0].Broker
	require.True(t, broker.Reachable)
	require.Equal(t, "connected", broker.State)
	require.Equal(t, []string{b.URL()}, broker.Servers)

	got = runOnce(t, command("status", "--store", store, "--broker", b.URL()))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Contains(t, got.stdout, "connection                   connected\n")
	require.Contains(t, got.stdout, "pending                      1\n")
}

// A broker that is not there, one that refuses, a store that is not there.
func TestStatusTrouble(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"ann": "secret"}})
	store := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "x", "--no-wait")).code)

	got := runOnce(t, command("status", "--store", store, "--broker", "mqtt://127.0.0.1:1", "--json"))
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.lastLine(), "the broker cannot be reached: ")
	o := objects[lookObject](t, got.stdout)[0]
	require.EqualValues(t, 1, o.Store.Pending, "the store is shown all the same")
	require.False(t, o.Broker.Reachable)
	require.Equal(t, string(autopaho.ClassNetwork), o.Broker.ErrorClass)

	got = runOnce(t, command("status", "--store", store, "-L", nobody, "-L", b.URL(), "-u", "ann", "-P", "secret", "--json"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.True(t, objects[lookObject](t, got.stdout)[0].Broker.Reachable, "the second of several brokers")

	got = runOnce(t, command("status", "--store", store, "--broker", b.URL(), "-u", "ann", "-P", "wrong", "--json"))
	require.Equal(t, exitRefused, got.code, got.stderr)
	require.Equal(t, string(autopaho.ClassAuthentication), objects[lookObject](t, got.stdout)[0].Broker.ErrorClass)
	require.NotContains(t, got.stdout+got.stderr, "wrong")

	got = runOnce(t, command("status", "--store", fileStore(t)))
	require.Equal(t, exitStore, got.code)
	require.Contains(t, got.lastLine(), "there is no store at")

	got = runOnce(t, command("status", "--watch", "1ms"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.lastLine(), "--watch: 1ms is too short; use 100ms or more")
}

// Of several servers each is tried before there is said to be none.
func TestTriedAll(t *testing.T) {
	t.Parallel()
	failed := autopaho.Event{Kind: autopaho.EventError, ClientID: "c", Err: errStopped}
	for name, events := range map[string][]autopaho.Event{
		"all":       {failed, failed},
		"second":    {failed, {Kind: autopaho.EventConnected}},
		"refused":   {{Kind: autopaho.EventError, ClientID: "c", Err: autopaho.ErrRefused}},
		"the store": {{Kind: autopaho.EventError, Err: errStopped}, failed, failed},
	} {
		onEvent, told := triedAll(2)
		for _, e := range events {
			require.Empty(t, told, name)
			onEvent(e)
		}
		require.Len(t, told, 1, name)
	}
}

// --watch prints again and again until it is stopped, and that is a good end.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	store := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "x", "--no-wait")).code)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out := &until{lines: 3, done: cancel}
	var stderr bytes.Buffer
	code := run(ctx, []string{"oncemq", "status", "--store", store, "--watch=100ms", "--json"}, nil, strings.NewReader(""), out, &stderr)
	require.Equal(t, exitDone, code, stderr.String())
	require.GreaterOrEqual(t, len(objects[lookObject](t, out.String())), 3)
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

// until calls done after so many lines.
type until struct {
	bytes.Buffer
	lines int
	done  func()
}

func (u *until) Write(p []byte) (int, error) {
	if u.lines -= bytes.Count(p, []byte("\n")); u.lines <= 0 {
		u.done()
	}
	return u.Buffer.Write(p)
}

// --stats says on standard error how it goes, one object a line, and at the end
// once more; standard output has the messages alone.
func TestStats(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.Publish(brokertest.Packet{Topic: "a/1", Payload: []byte("kept"), QoS: 1, Retain: true})
	got := runOnce(t, command("sub", "--broker", b.URL(), "-t", "a/#", "-C", "1", "--stats"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "kept\n", got.stdout)
	all := objects[clientObject](t, got.stderr)
	last := all[len(all)-1]
	require.EqualValues(t, 1, last.Counters.Received)
	require.Len(t, last.Connections, 1)
	require.Equal(t, "connected", last.Connections[0].State)
	require.Equal(t, []filterObject{{Filter: "a/#", Received: 1, Processed: 1}}, last.Filters)

	store := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "b", "-m", "x", "--no-wait")).code)
	got = runOnce(t, command("relay", "--once", "--broker", b.URL(), "--store", store, "--stats=100ms"))
	require.Equal(t, exitDone, got.code, got.stderr)
	all = objects[clientObject](t, got.stderr)
	last = all[len(all)-1]
	require.EqualValues(t, 1, last.Counters.Delivered)
	require.EqualValues(t, 0, last.Outbox.Pending)
	require.NotEmpty(t, last.Breakers)

	got = runOnce(t, command("relay", "--stats=1ms"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.lastLine(), "--stats: 1ms is too short; use 100ms or more")
}

// The interval may be left out, and stand behind a blank or "=".
func TestStatsForms(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]time.Duration{
		"--stats": defaultStats, "--stats 5": 5 * time.Second, "--stats=500ms": 500 * time.Millisecond,
		"--stats --once": defaultStats, "--once": 0, "--stats=off": 0,
	} {
		o := new(relayOptions)
		app := newApp(&shell{})
		c := findCommand(app.Commands, "relay")
		c.Flags = toFlags(o.options())
		c.Action = nothing
		r, err := readArgs(app, append([]string{"oncemq", "relay"}, strings.Fields(args)...))
		require.NoError(t, err, args)
		require.NoError(t, app.Run(r.args), args)
		require.Equal(t, want, o.stats.interval, args)
	}
}

// What stands on a terminal is taken away before anything else is written, and no
// line is wider than the terminal.
func TestScreen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := newReporter(&out, "oncemq relay")
	s := newScreen(&out, 12)
	log.setBefore(s.clear)
	s.show(log, []string{"first", "äöüäöüäöüäöüäöü"})
	s.show(log, []string{"third"})
	log.warn("careful")
	log.warn("more")
	require.Equal(t, "first\näöüäöüäöüäö\n\x1b[2A\r\x1b[Jthird\n\x1b[1A\r\x1b[Joncemq relay: careful\noncemq relay: more\n", out.String())
}

// The lines for people, in the worst of times.
func TestClientLines(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 31, 8, 0, 0, 0, time.UTC)
	lines := clientLines(&autopaho.Status{
		Connections: []autopaho.ConnStatus{{
			ClientID: "c", State: autopaho.StateReconnecting, Since: now.Add(-3 * time.Second), Attempts: 2, Connects: 1,
			LastError: autopaho.ErrConnectionLost,
		}},
		Breakers: []autopaho.BreakerStatus{
			{Name: autopaho.BreakerStore, State: autopaho.BreakerOpen, Since: now.Add(-time.Minute)},
			{Name: autopaho.BreakerBroker, State: autopaho.BreakerClosed},
		},
		StoreErr: context.DeadlineExceeded,
		Counters: autopaho.Counters{Received: 7, Processed: 4, Duplicates: 2, Dead: 1},
	}, now)
	require.Equal(t, []string{
		"broker    reconnecting for 3s, 0 in flight, 0 unacknowledged, 1 connections; c",
		"          2 attempts; network: connection lost before the broker answered",
		"breaker   store open for 1m0s",
		"store     context deadline exceeded",
		"received  7: 4 processed, 2 duplicates, 0 retried, 1 dead",
	}, lines)
}
