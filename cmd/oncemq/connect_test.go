package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// connectOf runs a command until it has sent its CONNECT, and returns that.
func connectOf(t *testing.T, args ...string) *brokertest.Packet {
	t.Helper()
	l := brokertest.Listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var out, stderr strings.Builder
		run(ctx, append([]string{"oncemq", args[0], "-L", l.URL()}, args[1:]...), []string{"XDG_STATE_HOME=" + t.TempDir()}, strings.NewReader(""), &out, &stderr)
	}()
	c := l.Accept(t.Context())
	p := c.ExpectConnect()
	l.Close()
	c.Close()
	cancel()
	<-ended
	return p
}

// TestConnect: what the options say of the session gets into CONNECT.
func TestConnect(t *testing.T) {
	t.Parallel()
	const day = 24 * 60 * 60
	for name, test := range map[string]struct {
		args       []string
		id         string // begins with
		clean      bool
		expiry     uint32
		keepAlive  uint16
		receiveMax uint32
	}{
		"pub":             {[]string{"pub", "-t", "a", "-m", "x"}, "oncemq-", true, day, 60, 256},
		"pub -i":          {[]string{"pub", "-t", "a", "-m", "x", "-i", "me", "-k", "7"}, "me", true, day, 7, 256},
		"pub -I":          {[]string{"pub", "-t", "a", "-m", "x", "-I", "pre-", "-x", "30"}, "pre-", true, 30, 60, 256},
		"relay":           {[]string{"relay", "-i", "me", "--receive-maximum", "9"}, "me", true, day, 60, 9},
		"sub":             {[]string{"sub", "-t", "a"}, "oncemq-", true, 60, 60, 256},
		"sub -I":          {[]string{"sub", "-t", "a", "-I", "pre-"}, "pre-", true, 60, 60, 256},
		"sub -i":          {[]string{"sub", "-t", "a", "-i", "me"}, "me", true, 60, 60, 256},
		"sub -x":          {[]string{"sub", "-t", "a", "-i", "me", "-x", "0"}, "me", true, 0, 60, 256},
		"sub -c":          {[]string{"sub", "-t", "a", "-i", "me", "-c"}, "me", false, 1<<32 - 1, 60, 256},
		"sub -c -x":       {[]string{"sub", "-t", "a", "-i", "me", "-c", "-x", "1h"}, "me", false, 3600, 60, 256},
		"sub -c, clean":   {[]string{"sub", "-t", "a", "-i", "me", "-c", "--clean-start"}, "me", true, 1<<32 - 1, 60, 256},
		"sub --group":     {[]string{"sub", "-t", "a", "--group", "g"}, "oncemq-", true, 60, 60, 256},
		"sub --group, -c": {[]string{"sub", "-t", "a", "--group", "g", "-i", "me", "-c"}, "me", false, day, 60, 256},
		"sub --window":    {[]string{"sub", "-t", "a", "--group", "g", "-i", "me", "--window", "1h"}, "me", false, 3598, 60, 256},
		"sub --window 1s": {[]string{"sub", "-t", "a", "--group", "g", "--window", "1s"}, "oncemq-", true, 0, 60, 256},
		"sub -q 0":        {[]string{"sub", "-t", "a", "--group", "g", "-i", "me", "--window", "1h", "-q", "0"}, "me", false, day, 60, 256},
		"both":            {[]string{"sub", "-t", "a", "--group", "g", "-i", "me", "--window", "2h", "-x", "1h"}, "me", false, 3600, 60, 256},
		"sub --group, -i": {[]string{"sub", "-t", "a", "--group", "g", "-i", "me"}, "me", false, day, 60, 256},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.args[0] == "relay" {
				test.args = append(test.args, "--store", fileStore(t))
			}
			p := connectOf(t, test.args...)
			require.True(t, strings.HasPrefix(p.Connect.ClientID, test.id), p.Connect.ClientID)
			require.Equal(t, test.clean, p.Connect.CleanStart)
			require.Equal(t, test.keepAlive, p.Connect.KeepAlive)
			expiry, _ := p.Properties.Num(brokertest.PropSessionExpiryInterval)
			require.Equal(t, test.expiry, expiry)
			receiveMax, _ := p.Properties.Num(brokertest.PropReceiveMaximum)
			require.Equal(t, test.receiveMax, receiveMax)
			require.Nil(t, p.Connect.Will)
		})
	}
}

func TestWill(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{{"pub", "-t", "a", "-m", "x"}, {"sub", "-t", "a"}} {
		w := connectOf(t, append(command, "--will-topic", "gone/me", "--will-payload", "bye", "--will-qos", "2", "--will-retain",
			"--will-delay", "5", "--will-expiry", "1m", "--will-content-type", "t/p", "--will-user-property", "k=v")...).Connect.Will
		require.NotNil(t, w)
		require.Equal(t, "gone/me", w.Topic)
		require.Equal(t, "bye", string(w.Payload))
		require.EqualValues(t, 2, w.QoS)
		require.True(t, w.Retain)
		delay, _ := w.Properties.Num(brokertest.PropWillDelayInterval)
		require.EqualValues(t, 5, delay)
		expiry, _ := w.Properties.Num(brokertest.PropMessageExpiryInterval)
		require.EqualValues(t, 60, expiry)
		contentType, _ := w.Properties.Str(brokertest.PropContentType)
		require.Equal(t, "t/p", contentType)
	}
}

// TestStoreWhatWasRead: a signal ends reading; what was read by then is stored.
func TestStoreWhatWasRead(t *testing.T) {
	t.Parallel()
	b := newBooks(t, false)
	p := &publication{o: new(pubOptions), client: b.client, ledger: b.ledger, gather: newGather()}
	p.template.Topic = "a"
	for range 3 {
		require.NoError(t, p.gather.put([]byte("x")))
	}
	p.gather.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, p.storeAll(ctx))
	c, _, _ := b.tally()
	require.EqualValues(t, 3, c.stored)
}

// TestSubKeepsTheOrderOfArrival: messages of several topics wait behind one that
// is being printed. A worker that took them key by key would print them in
// another order.
func TestSubKeepsTheOrderOfArrival(t *testing.T) {
	t.Parallel()
	sent := make(chan struct{}, 100)
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.Out && (p.Type == brokertest.SUBACK || p.Type == brokertest.PUBLISH) {
			sent <- struct{}{}
		}
		return brokertest.Pass
	}})
	var out, stderr strings.Builder
	w := &slowWriter{allow: make(chan struct{}), Writer: &out}
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"oncemq", "sub", "-L", b.URL(), "-t", "#", "-C", "6"}, nil, strings.NewReader(""), w, &stderr)
	}()
	await := func() {
		select {
		case <-sent:
		case <-within(t, 10*time.Second).Done():
			t.Fatal("the broker has sent nothing")
		}
	}
	await()
	topics := []string{"a", "a", "b", "a", "c", "b"}
	for i, topic := range topics {
		b.Publish(brokertest.Packet{Topic: topic, Payload: []byte{'1' + byte(i)}, QoS: 1})
	}
	for range topics {
		await()
	}
	close(w.allow)
	require.Equal(t, exitDone, <-ended, stderr.String())
	require.Equal(t, "1\n2\n3\n4\n5\n6\n", out.String())
}

// TestTrouble: an outage is told once, and its end; what is over at the next
// attempt is not worth a line.
func TestTrouble(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	tr := newTrouble(newReporter(&b, "oncemq pub"))
	event := func(kind autopaho.EventKind, err error) {
		tr.event(autopaho.Event{Kind: kind, ClientID: "c", Err: err})
	}
	event(autopaho.EventConnected, nil)
	event(autopaho.EventDisconnected, errStopped)
	event(autopaho.EventReconnected, nil)
	require.Empty(t, b.String())
	for range 3 {
		event(autopaho.EventError, errStopped)
	}
	require.ErrorIs(t, tr.connecting(), errStopped)
	event(autopaho.EventReconnected, nil)
	require.NoError(t, tr.connecting())
	require.Equal(t, "oncemq pub: cannot connect: stopped; trying again\noncemq pub: connected\n", b.String())
	event(autopaho.EventError, errStopped)
	require.Equal(t, 2, strings.Count(b.String(), "trying again"))
}

// A broker that refuses MQTT 5 in the way of MQTT 3.1.1 is a refusal to every command
// that connects.
func TestOldBroker(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"pub -t a -m x", "sub -t a", "rr -t a -m x", "relay --store %", "status --store %", "bench e2e"} {
		name, _, _ := strings.Cut(args, " ")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := brokertest.Listen(t)
			old.Script(func(c *brokertest.Conn) {
				if _, err := c.ReadPacket(context.Background()); err == nil {
					c.SendRaw([]byte{0x20, 2, 0, 1})
				}
				c.Close()
			})
			store := fileStore(t)
			require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "x", "--no-wait")).code)
			got := runOnce(t, command(append(strings.Fields(strings.ReplaceAll(args, "%", store)), "--broker", old.URL())...))
			require.Equal(t, exitRefused, got.code, got.stderr)
			require.Contains(t, got.lastLine(), old.URL()+": refused by the broker: broker speaks MQTT 3.1.1 only")
		})
	}
}

// TestPasswordFileIsReadAgain: a password that is changed while the command runs
// is used for the next connection.
func TestPasswordFileIsReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("one\n"), 0o600))
	l := brokertest.Listen(t)
	ended := make(chan outcome, 1)
	go func() {
		ended <- runOnce(t, command("pub", "-L", l.URL(), "-t", "a", "-m", "x", "-u", "me", "--password-file", file))
	}()
	for _, password := range []string{"one", "two"} {
		c := l.Accept(t.Context())
		require.Equal(t, password, *c.ExpectConnect().Connect.Password)
		require.NoError(t, os.WriteFile(file, []byte("two\r\n"), 0o600))
		c.SendConnack(false, 0)
		p := c.ExpectPublish()
		if password == "one" {
			c.Reset()
			continue
		}
		c.SendPuback(p.PacketID, 0)
		c.ExpectDisconnect()
		c.Close()
	}
	got := <-ended
	require.Equal(t, exitDone, got.code, got.stderr)
}
