package session

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	readBufferSize  = 64 << 10
	writeBufferSize = 64 << 10
	// keepBuffer is the most that a buffer may hold on to once it is empty.
	keepBuffer = 256 << 10
	// lingerTimeout bounds how long a closing connection waits for the server
	// to read what was sent and to close its side.
	lingerTimeout = time.Second
)

// conn is the net.Conn that paho uses.
//
// Reading: Read hands every whole packet that concerns messages to the engine,
// in the reader's goroutine, and gives paho the bytes of the others. Only one
// goroutine reads at a time: paho's wait for CONNACK, and then its reader.
//
// Writing: the lock is held while packets are put into the buffer and while it
// is written. paho locks around each packet of its own (it knows a sync.Locker
// when it sees one), so that packets never interleave; Unlock writes the
// buffer out. An error while writing closes the connection: the reader then
// sees it, and through paho everybody else.
type conn struct {
	net.Conn
	engine       *Engine
	maxPacket    int // what we declared as Maximum Packet Size
	writeTimeout time.Duration

	// Owned by the reading goroutine.
	in   []byte // what was read; in[r:w] is not used yet
	r, w int
	pass int // bytes at r that belong to paho

	mu     sync.Mutex // guards the following
	out    []byte
	outErr error

	closing   sync.Once
	linger    chan struct{} // closed once a clean end is wanted
	lingering sync.Once
	eof       chan struct{} // closed when the reader is done
	eofOnce   sync.Once
}

func newConn(nc net.Conn, e *Engine) *conn {
	return &conn{
		Conn: nc, engine: e,
		maxPacket: e.cfg.MaximumPacketSize, writeTimeout: e.cfg.WriteTimeout,
		in: make([]byte, readBufferSize), out: make([]byte, 0, writeBufferSize),
		linger: make(chan struct{}), eof: make(chan struct{}),
	}
}

// Read gives paho the bytes of the packets that it handles.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.pass > 0 {
			n := copy(p, c.in[c.r:min(c.w, c.r+c.pass)])
			c.r += n
			c.pass -= n
			return n, nil
		}
		header, size, err := splitFrame(c.in[c.r:c.w])
		if err == nil && size > c.maxPacket {
			// Refused before room is made for it [MQTT-3.1.2-24].
			err = &protocolError{code: 0x95, text: fmt.Sprintf(
				"packet of %d bytes is over our Maximum Packet Size of %d", size, c.maxPacket)}
		}
		if err != nil {
			return 0, c.fail(err)
		}
		if size == 0 || c.w-c.r < size {
			if err := c.fill(size); err != nil {
				return 0, err
			}
			continue
		}
		switch first := c.in[c.r]; first >> 4 {
		case typePublish, typePuback, typePubrec, typePubrel, typePubcomp:
			taken, err := c.engine.handle(c, first, c.in[c.r+header:c.r+size])
			if err != nil {
				return 0, c.fail(err)
			}
			if taken {
				c.r += size
				continue
			}
		}
		c.pass = size
	}
}

// fill reads more, and makes room for a packet of that size (zero if it is not
// known yet).
func (c *conn) fill(size int) error {
	c.engine.batchEnd()
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
		if len(c.in) > keepBuffer {
			c.in = make([]byte, max(readBufferSize, size))
		} else if size > len(c.in) {
			c.in = make([]byte, size)
		}
	case size > len(c.in):
		grown := make([]byte, size)
		c.w = copy(grown, c.in[c.r:c.w])
		c.in, c.r = grown, 0
	case c.w == len(c.in) || c.r+size > len(c.in):
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	n, err := c.Conn.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err != nil {
		err = fmt.Errorf("read from server: %w", err)
		c.engine.noteCause(c, err)
		c.eofOnce.Do(func() { close(c.eof) })
	}
	return err
}

// fail ends the connection because of what the server sent: DISCONNECT with
// the reason code that the specification asks for, as far as it can be written.
func (c *conn) fail(err error) error {
	var perr *protocolError
	code := byte(0x80)
	if errors.As(err, &perr) {
		code = perr.code
	}
	c.engine.noteCause(c, err)
	c.engine.batchEnd() // what came before the fault was received
	c.mu.Lock()
	c.out = append(c.out, 14<<4, 2, code, 0)
	_ = c.flushLocked() // the connection ends either way
	c.mu.Unlock()
	c.eofOnce.Do(func() { close(c.eof) })
	_ = c.Conn.Close()
	return err
}

// Lock begins a packet of paho's.
func (c *conn) Lock() { c.mu.Lock() }

// Unlock ends a packet of paho's and writes it.
func (c *conn) Unlock() {
	_ = c.flushLocked() // kept in outErr, and the connection is closed
	c.mu.Unlock()
}

// Write puts p into the buffer; the caller holds the lock, as paho does for
// every packet.
func (c *conn) Write(p []byte) (int, error) {
	if c.outErr != nil {
		return 0, c.outErr
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// flushLocked writes the buffer; c.mu is held.
func (c *conn) flushLocked() error {
	if c.outErr != nil {
		c.out = c.out[:0]
		return c.outErr
	}
	if len(c.out) == 0 {
		return nil
	}
	err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	if err == nil {
		_, err = c.Conn.Write(c.out)
	}
	if cap(c.out) > keepBuffer {
		c.out = make([]byte, 0, writeBufferSize)
	}
	c.out = c.out[:0]
	if err != nil {
		c.outErr = fmt.Errorf("write to server: %w", err)
		c.engine.noteCause(c, c.outErr)
		_ = c.Conn.Close()
	}
	return c.outErr
}

// beginLinger announces that a DISCONNECT of ours comes next, and that what was
// written must arrive.
func (c *conn) beginLinger() { c.lingering.Do(func() { close(c.linger) }) }

// Close ends the connection. After beginLinger it first closes only our side
// and waits until the server has closed its own: a close with unread bytes in
// the socket would send RST, which may overtake acknowledgements that the
// server has not read, and they would be for nothing.
func (c *conn) Close() error {
	var err error
	c.closing.Do(func() {
		select {
		case <-c.linger:
			if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				t := time.NewTimer(lingerTimeout)
				select {
				case <-c.eof:
				case <-t.C:
				}
				t.Stop()
			}
		default:
		}
		err = c.Conn.Close()
	})
	return err
}
