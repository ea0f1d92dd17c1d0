package brokertest_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// failing is a test that notes how it fails instead of failing.
type failing struct {
	testing.TB
	mu      sync.Mutex
	message string
}

func (f *failing) Helper()             {}
func (f *failing) Logf(string, ...any) {}
func (f *failing) Failed() bool        { return false }
func (f *failing) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.message = fmt.Sprintf(format, args...)
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// failure runs a script and returns the message with which it failed.
func failure(t *testing.T, client func(*brokertest.Conn), script func(*brokertest.Conn)) string {
	t.Helper()
	f := &failing{TB: t}
	l := brokertest.Listen(f)
	l.SetTimeout(50 * time.Millisecond)
	wait := l.Script(script)
	c := brokertest.Dial(t, l.Addr())
	client(c)
	wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.message
}

func TestAFailureSaysWhatCameInstead(t *testing.T) {
	t.Parallel()
	publish := func(c *brokertest.Conn) {
		c.SendPublish(brokertest.Packet{PacketID: 7, QoS: 1, Topic: "a/b", Payload: []byte("hello")})
	}
	for name, c := range map[string]struct {
		client func(*brokertest.Conn)
		script func(*brokertest.Conn)
		want   []string
	}{
		"other type": {publish, func(c *brokertest.Conn) { c.ExpectPuback() }, []string{"PUBACK expected, got PUBLISH id 7", `topic "a/b"`}},
		"other topic": {
			publish, func(c *brokertest.Conn) { c.ExpectPublish(brokertest.HasTopic("c")) },
			[]string{"topic is a/b, not c"},
		},
		"other payload": {
			publish, func(c *brokertest.Conn) { c.ExpectPublish(brokertest.HasID(7), brokertest.HasPayload("bye")) },
			[]string{"payload is hello, not bye"},
		},
		"nothing":        {func(*brokertest.Conn) {}, func(c *brokertest.Conn) { c.ExpectPublish() }, []string{"no packet within 50ms"}},
		"end":            {(*brokertest.Conn).Close, func(c *brokertest.Conn) { c.ExpectPublish() }, []string{"no packet: EOF"}},
		"malformed":      {func(c *brokertest.Conn) { c.SendRaw([]byte{0x36, 0}) }, func(c *brokertest.Conn) { c.ExpectPublish() }, []string{"malformed", "36 00"}},
		"cut short":      {func(c *brokertest.Conn) { c.SendRaw([]byte{0x30, 5, 0}); c.Close() }, func(c *brokertest.Conn) { c.ExpectPublish() }, []string{"after the first 3 bytes"}},
		"not closed":     {publish, func(c *brokertest.Conn) { c.ExpectClosed() }, []string{"end of the connection expected, got PUBLISH"}},
		"still open":     {func(*brokertest.Conn) {}, func(c *brokertest.Conn) { c.ExpectClosed() }, []string{"end of the connection expected"}},
		"not quiet":      {publish, func(c *brokertest.Conn) { c.ExpectQuiet(time.Second) }, []string{"silence expected, got PUBLISH"}},
		"end, not quiet": {(*brokertest.Conn).Close, func(c *brokertest.Conn) { c.ExpectQuiet(time.Second) }, []string{"silence expected: EOF"}},
		"manual ping": {
			func(c *brokertest.Conn) { c.Send(&brokertest.Packet{Type: brokertest.PINGREQ}) },
			func(c *brokertest.Conn) { c.ManualPing(); c.ExpectPublish() },
			[]string{"PUBLISH expected, got PINGREQ"},
		},
		"no room": {
			func(*brokertest.Conn) {}, func(c *brokertest.Conn) { c.SendRaw(make([]byte, 64<<20)) }, []string{"write: "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := failure(t, c.client, c.script)
			for _, want := range c.want {
				require.Contains(t, message, want)
			}
		})
	}
}

func TestNobodyConnects(t *testing.T) {
	t.Parallel()
	f := &failing{TB: t}
	l := brokertest.Listen(f)
	l.ExpectNoConnection(10 * time.Millisecond)
	require.Empty(t, f.message)
	l.SetTimeout(10 * time.Millisecond)
	l.Script(func(*brokertest.Conn) {})()
	require.Contains(t, f.message, "no client connected")
}

func TestPingIsAnsweredWhileWaiting(t *testing.T) {
	t.Parallel()
	_, client, server := pair(t)
	client.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
	server.ExpectPingreq()
	client.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
	client.SendDisconnect(4)
	server.ExpectDisconnect(brokertest.HasCode(4))
	client.Expect(brokertest.PINGRESP)
	require.Equal(t, "<- PINGREQ\n<- PINGREQ\n-> PINGRESP\n<- DISCONNECT code 0x04\n", server.Log().String())
}

func TestStopReadingBlocksTheClient(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	client, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr())
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	l.Accept(t.Context()).StopReading()
	require.NoError(t, client.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	n, err := client.Write(make([]byte, 64<<20))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Less(t, n, 8<<20)
}

func TestAckForms(t *testing.T) {
	t.Parallel()
	_, client, server := pair(t)
	for _, c := range []struct {
		form brokertest.Form
		code byte
		want []byte
	}{
		{brokertest.FormAuto, 0, []byte{0x40, 2, 0, 1}},
		{brokertest.FormAuto, 0x10, []byte{0x40, 3, 0, 1, 0x10}},
		{brokertest.FormShort, 0x10, []byte{0x40, 2, 0, 1}},
		{brokertest.FormCode, 0, []byte{0x40, 3, 0, 1, 0}},
		{brokertest.FormFull, 0, []byte{0x40, 4, 0, 1, 0, 0}},
	} {
		server.SendAck(brokertest.PUBACK, c.form, 1, c.code)
		require.Equal(t, c.want, client.ExpectPuback().Raw)
	}
	server.SendPuback(1, 0, brokertest.ReasonString("x"))
	require.Equal(t, []byte{0x40, 8, 0, 1, 0, 4, 0x1F, 0, 1, 'x'}, client.ExpectPuback().Raw)
}
