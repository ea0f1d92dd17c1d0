package session

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBufferSize  = 64 << 10
	writeBufferSize = 64 << 10
	// keepBuffer is the most that a buffer may hold on to once it is empty.
	keepBuffer = 256 << 10
	// lingerTimeout bounds how long a connection that ends waits for what the
	// server has still to say, and for it to read what was sent.
	lingerTimeout = time.Second
)

// conn is the net.Conn that paho uses.
//
// Reading: Read hands every whole packet that concerns messages to the engine,
// in the reader's goroutine, and gives paho the bytes of the others. Only one
// goroutine reads at a time: paho's wait for CONNACK, then its reader, and
// after that Close.
//
// Writing: the lock is held while packets are put into the buffer and while it
// is written. paho locks around each packet of its own (it knows a sync.Locker
// when it sees one), so that packets never interleave; Unlock writes the
// buffer out. After an error nothing more is written, and the reader has a
// moment to find the server's DISCONNECT, which tells why; its end is seen by
// paho, and through it by everybody else.
type conn struct {
	net.Conn
	engine       *Engine
	maxPacket    int // what we declared as Maximum Packet Size
	writeTimeout time.Duration

	begun bool // CONNACK was accepted; guarded by Engine.mu

	born      time.Time
	lastRead  atomic.Int64 // when bytes came in last, in nanoseconds since born
	lastWrite atomic.Int64 // the same of what was written
	waits     atomic.Int64 // since when the reader waits for bytes; zero while it does not

	reading sync.Mutex // guards the following: held by Read, and at last by Close
	in      []byte     // what was read; in[r:w] is not used yet
	r, w    int
	pass    int // bytes at r that belong to paho

	mu      sync.Mutex // guards the following
	out     []byte
	outErr  error
	connect []byte // the CONNECT to send in place of paho's, until it is sent

	closing sync.Once
	leaving atomic.Bool // the reader must wait for nothing but bytes any more
	clean   atomic.Bool // Close is to wait until what was written has arrived
}

func newConn(nc net.Conn, e *Engine) *conn {
	return &conn{
		Conn: nc, engine: e, born: time.Now(),
		maxPacket: e.cfg.MaximumPacketSize, writeTimeout: e.cfg.WriteTimeout,
		in: make([]byte, readBufferSize), out: make([]byte, 0, writeBufferSize),
	}
}

// Read gives paho the bytes of the packets that it handles.
func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		if c.pass > 0 {
			n := copy(p, c.in[c.r:min(c.w, c.r+c.pass)])
			c.r += n
			c.pass -= n
			return n, nil
		}
		header, size, err := splitFrame(c.in[c.r:c.w])
		if size > c.maxPacket {
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
		taken := false
		switch first := c.in[c.r]; first >> 4 {
		case typePublish, typePuback, typePubrec, typePubrel, typePubcomp:
			if first>>4 == typePublish && first&6 != 0 {
				c.engine.awaitRoom(c)
			}
			taken, err = c.engine.handle(c, first, c.in[c.r+header:c.r+size])
		case typeConnack:
			err = c.engine.checkConnack(c)
			if err == nil && oldVersion(c.in[c.r:c.r+size]) {
				return 0, errVersionRefused // without a DISCONNECT, which it would not know
			}
		case typeDisconnect:
			c.engine.batchEnd() // paho ends the connection and does not read again
		case typeUnsuback:
			c.engine.batchEnd() // what came before it came for who is told by it
		}
		if err != nil {
			return 0, c.fail(err)
		}
		if taken {
			c.r += size
		} else {
			c.pass = size
		}
	}
}

// starved tells whether the reader has waited for bytes for so long. One that does
// not, since there is no room for what has come, knows nothing of the server.
func (c *conn) starved(now, patience time.Duration) bool {
	since := time.Duration(c.waits.Load())
	return since != 0 && now-since >= patience
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
	c.waits.Store(int64(time.Since(c.born)))
	n, err := c.Conn.Read(c.in[c.w:])
	c.waits.Store(0)
	c.w += n
	if n > 0 {
		c.lastRead.Store(int64(time.Since(c.born)))
		return nil
	}
	if err != nil {
		err = &transportError{"read from server", err}
		c.engine.noteCause(c, err)
	}
	return err
}

// fail ends the connection because of what the server sent: DISCONNECT with
// the reason code that the specification asks for, as far as it can be written.
// c.reading is held.
func (c *conn) fail(err error) error {
	var perr *protocolError
	code := byte(0x80)
	if errors.As(err, &perr) {
		code = perr.code
	}
	c.engine.noteCause(c, err)
	c.engine.batchEnd() // what came before the fault was received
	c.mu.Lock()
	c.out = append(c.out, typeDisconnect<<4, 2, code, 0)
	_ = c.flushLocked() // the connection ends either way
	if c.outErr == nil {
		c.outErr = err // nothing may follow DISCONNECT [MQTT-3.14.4-2]
	}
	c.mu.Unlock()
	c.drain()
	_ = c.Conn.Close()
	return err
}

// Lock begins a packet of paho's.
func (c *conn) Lock() { c.mu.Lock() }

// Unlock ends a packet of paho's and writes it.
func (c *conn) Unlock() {
	if c.connect != nil {
		c.out, c.connect = c.connect, nil
	}
	_ = c.flushLocked() // kept in outErr
	c.mu.Unlock()
}

// Write puts p into the buffer; the caller holds the lock, as paho does for
// every packet.
func (c *conn) Write(p []byte) (int, error) {
	if c.outErr != nil {
		return 0, fmt.Errorf("%w: %w", ErrConnectionLost, c.outErr)
	}
	if c.connect == nil {
		c.out = append(c.out, p...)
	}
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
	now := time.Now()
	err := c.SetWriteDeadline(now.Add(c.writeTimeout))
	if err == nil {
		c.lastWrite.Store(int64(now.Sub(c.born)))
		_, err = c.Conn.Write(c.out)
	}
	if cap(c.out) > keepBuffer {
		c.out = make([]byte, 0, writeBufferSize)
	}
	c.out = c.out[:0]
	if err != nil {
		c.outErr = &transportError{"write to server", err}
		c.engine.noteCause(c, c.outErr)
		// The reader ends the connection. A server that has gone may have said
		// why: a client that missed that its session was taken over would
		// connect again and take it back.
		if c.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
			_ = c.Conn.Close()
		}
		c.leave()
	}
	return c.outErr
}

// endCleanly announces that a DISCONNECT of ours comes next, and that what was
// written must arrive.
func (c *conn) endCleanly() {
	c.clean.Store(true)
	c.leave()
}

// hangUp ends the connection without a word; paho learns it from the reader.
func (c *conn) hangUp() {
	_ = c.Conn.Close()
	c.leave()
}

// leave lets a reader that waits for room go on. It must be called without
// Engine.mu.
func (c *conn) leave() {
	c.leaving.Store(true)
	c.engine.mu.Lock()
	c.engine.tellWaiters()
	c.engine.mu.Unlock()
}

// Close ends the connection.
func (c *conn) Close() error {
	var err error
	c.closing.Do(func() {
		if c.clean.Load() {
			// Makes the reader come to an end, if there is one still.
			if c.SetReadDeadline(time.Now().Add(lingerTimeout)) == nil {
				c.closeWrite()
				c.reading.Lock()
				c.drain()
				c.reading.Unlock()
			}
		}
		err = c.Conn.Close()
		c.leave()
	})
	return err
}

// drain closes our side only, and reads until the server has closed its own or
// lingerTimeout has passed. A close with unread bytes in the socket would send
// RST, which may overtake what the server has not read yet: acknowledgements
// would be for nothing, and the reason why we leave would get lost. c.reading
// is held.
func (c *conn) drain() {
	c.closeWrite()
	if c.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	for {
		if _, err := c.Conn.Read(c.in); err != nil {
			return
		}
	}
}

// closeWrite ends our side of the stream, where the transport can do that. Where
// it cannot the server sees the DISCONNECT, after which it closes.
func (c *conn) closeWrite() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the connection ends either way
	}
}
