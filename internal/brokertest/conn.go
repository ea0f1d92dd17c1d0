package brokertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Conn is one connection, under the control of the test. It reads nothing by
// itself: what the test does not read stays in the socket. It is used by one
// goroutine at a time, except for Close, Reset, CloseWrite and Log.
type Conn struct {
	t        TB
	tcp      *net.TCPConn
	conn     net.Conn
	r        *bufio.Reader
	recorder *recorder
	index    int
	timeout  time.Duration
	manual   bool

	closing sync.Once
}

func newConn(tb TB, tcp *net.TCPConn, rec *recorder, index int, timeout time.Duration) *Conn {
	tb.Helper()
	c := &Conn{t: tb, tcp: tcp, recorder: rec, index: index, timeout: timeout}
	c.setConn(tcp)
	return c
}

func (c *Conn) setConn(nc net.Conn) {
	c.conn = nc
	c.r = bufio.NewReaderSize(nc, 512)
}

// Dial connects to a broker, for tests that play the client by hand; the
// helpers of Conn serve both sides. The connection is closed when the test
// ends.
func Dial(tb TB, addr string) *Conn {
	tb.Helper()
	dialer := net.Dialer{Timeout: DefaultTimeout}
	nc, err := dialer.DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatalf("brokertest: %v", err)
	}
	c := newConn(tb, nc.(*net.TCPConn), &recorder{}, 1, DefaultTimeout)
	tb.Cleanup(c.Close)
	return c
}

// Index counts the connections of the listener, from 1.
func (c *Conn) Index() int { return c.index }

// Log is what was sent and received on this connection so far.
func (c *Conn) Log() Log { return c.recorder.log(c.index) }

// ManualPing makes the Expect helpers treat a PINGREQ like any other packet.
// Otherwise they answer it and go on waiting, because a client may ping at any
// time.
func (c *Conn) ManualPing() { c.manual = true }

// ReadPacket reads the next packet, whatever it is, before ctx ends or the
// timeout has passed. The error is io.EOF if the client closed the connection
// between two packets, and wraps ErrMalformed for a packet that breaks the
// rules; that packet is returned and logged too.
func (c *Conn) ReadPacket(ctx context.Context) (*Packet, error) {
	deadline := time.Now().Add(c.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	defer wakeAt(ctx, c.conn.SetReadDeadline)()
	raw, err := ReadRaw(c.r)
	switch {
	case errors.Is(err, ErrMalformed):
		p := &Packet{Type: Type(raw[0] >> 4), Flags: raw[0] & 0x0F, Raw: raw}
		c.recorder.add(c.index, In, p)
		return p, err
	case err != nil && len(raw) > 1:
		return nil, fmt.Errorf("after the first %d bytes of a packet: %w", len(raw), err)
	case err != nil:
		return nil, err
	}
	p, err := Decode(raw)
	c.recorder.add(c.index, In, p)
	return p, err
}

// wakeAt ends what waits under a deadline when ctx ends, by a deadline in the
// past. The function that it returns undoes that, and returns when the deadline
// is not touched any more.
func wakeAt(ctx context.Context, setDeadline func(time.Time) error) (stop func()) {
	touched := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(touched)
		_ = setDeadline(time.Unix(1, 0))
	})
	return func() {
		if !cancel() {
			<-touched
		}
	}
}

// Send writes a packet. It fails the test if the packet cannot be written
// before the timeout has passed.
func (c *Conn) Send(p *Packet) {
	c.t.Helper()
	sent := *p
	sent.Raw = p.Encode()
	c.recorder.add(c.index, Out, &sent)
	c.write(sent.Raw)
}

// SendRaw writes bytes as they are; they may be a part of a packet, or none.
// They are not logged.
func (c *Conn) SendRaw(b []byte) {
	c.t.Helper()
	c.write(b)
}

func (c *Conn) write(b []byte) {
	c.t.Helper()
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		c.fail("set write deadline: %v", err)
	}
	if _, err := c.conn.Write(b); err != nil {
		c.fail("write: %v", err)
	}
}

// StopReading makes the socket's receive buffer as small as the system allows,
// so that the client's writes soon block as long as the test reads nothing.
func (c *Conn) StopReading() {
	c.t.Helper()
	if err := c.tcp.SetReadBuffer(1); err != nil {
		c.fail("set read buffer: %v", err)
	}
}

// CloseWrite ends the stream to the client (FIN) and leaves the other
// direction open.
func (c *Conn) CloseWrite() { _ = c.tcp.CloseWrite() }

// Close closes the connection: by FIN, or by RST if the client sent bytes that
// were not read. A second call does nothing.
func (c *Conn) Close() { c.closing.Do(func() { _ = c.tcp.Close() }) }

// Reset closes the connection by RST and throws away what was not read: the
// way in which a broker that is killed goes. What was sent before has reached
// the client's socket or is lost.
func (c *Conn) Reset() {
	c.closing.Do(func() {
		_ = c.tcp.SetLinger(0)
		_ = c.tcp.Close()
	})
}

// fail fails the test, with the log of the connection, and closes the
// connection so that a client in another goroutine does not wait in vain.
func (c *Conn) fail(format string, args ...any) {
	c.t.Helper()
	c.Close()
	c.t.Fatalf("brokertest: connection %d: "+format, append([]any{c.index}, args...)...)
}
