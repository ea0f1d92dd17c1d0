package brokertest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection of a Broker. Its goroutine reads; a second one, which
// the first waits for, writes, so that nobody who holds a lock waits for a
// client that does not read.
type link struct {
	b     *Broker
	index int
	tcp   *net.TCPConn
	r     *bufio.Reader

	// clientID is set by the CONNECT, before connected is.
	clientID  string
	connected atomic.Bool

	// Of the reading goroutine.
	packets   int // since the CONNECT
	dropAt    int
	keepAlive time.Duration

	// Guarded by Broker.mu.
	session *session
	resumed bool
	// What the client owes us in this order: PUBACKs and PUBRECs of what it
	// was sent, PUBRELs of what it sent.
	puback, pubrec, pubrel []uint16
	resent                 int // place of the exchange last re-sent by the client

	// mu guards what follows.
	mu       sync.Mutex
	out      []outgoing
	acks     []outgoing
	inFlight map[uint16]*exchange // sent by the client on this connection, not yet acknowledged
	ending   bool                 // close when everything is written
	muted    bool                 // write nothing
	wake     chan struct{}
	done     chan struct{}
}

// outgoing is a packet that waits to be written.
type outgoing struct {
	packet   *Packet
	exchange *exchange // settled by this packet, or nil
	due      time.Time
}

func newLink(b *Broker, tcp *net.TCPConn, index int) *link {
	return &link{
		b: b, index: index, tcp: tcp,
		r:        bufio.NewReaderSize(tcp, 16<<10),
		inFlight: map[uint16]*exchange{},
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
}

// serve reads until the connection ends, and returns when nothing of it is
// left.
func (l *link) serve() {
	var writer sync.WaitGroup
	writer.Go(l.write)
	l.read()
	close(l.done)
	writer.Wait()
	_ = l.tcp.Close()
	l.b.gone(l)
}

func (l *link) read() {
	for {
		if l.keepAlive > 0 {
			// [MQTT-3.1.2-22]
			if err := l.tcp.SetReadDeadline(time.Now().Add(l.keepAlive + l.keepAlive/2)); err != nil {
				return
			}
		}
		raw, err := ReadRaw(l.r)
		var p *Packet
		if err == nil {
			p, err = Decode(raw)
		}
		switch {
		case errors.Is(err, ErrMalformed):
			l.violate("%v: % X", err, shortenRaw(raw))
			l.end(0x81)
			_, _ = io.Copy(io.Discard, l.r)
			return
		case err != nil:
			return
		}
		l.b.logf("%d %s <- %s", l.index, l.clientID, p)
		if !l.handle(p) {
			break
		}
	}
	// A farewell under way is not to be spoilt by RST, which closing with
	// unread bytes would be: the writer closes when it is done.
	_, _ = io.Copy(io.Discard, l.r)
}

// handle processes a packet and tells whether to go on.
func (l *link) handle(p *Packet) bool {
	if l.isEnding() {
		return false
	}
	if !l.connected.Load() {
		return l.b.connect(l, p)
	}
	switch l.b.faultIn(l, p) {
	case Pass:
		return l.b.dispatch(l, p)
	case Drop:
		return true
	case Cut:
		l.cut()
		return false
	case CutAfter:
		l.mute()
		l.b.dispatch(l, p)
		l.cut()
		return false
	default:
		panic("brokertest: unknown action")
	}
}

func shortenRaw(raw []byte) []byte { return raw[:min(len(raw), 64)] }

// violate records what the client did wrong.
func (l *link) violate(format string, args ...any) {
	l.b.history.violate("connection %d, client %q: "+format, append([]any{l.index, l.clientID}, args...)...)
}

// send puts a packet into the queue.
func (l *link) send(p *Packet) {
	l.mu.Lock()
	if !l.ending {
		l.out = append(l.out, outgoing{packet: p})
	}
	l.mu.Unlock()
	l.signal()
}

// acknowledge puts a PUBACK, PUBREC or PUBCOMP into the queue, to be written
// after Options.AckDelay. settled is the exchange that ends with it, or nil.
func (l *link) acknowledge(p *Packet, settled *exchange) {
	l.mu.Lock()
	if !l.ending {
		l.acks = append(l.acks, outgoing{packet: p, exchange: settled, due: time.Now().Add(l.b.options.AckDelay)})
	}
	l.mu.Unlock()
	l.signal()
}

// end writes what is queued, then a DISCONNECT, and closes the connection.
func (l *link) end(code byte) {
	l.send(&Packet{Type: DISCONNECT, Code: code})
	l.finish()
}

// finish closes the connection when what is queued has been written, other
// than delayed acknowledgements.
func (l *link) finish() {
	l.mu.Lock()
	l.ending = true
	l.mu.Unlock()
	l.signal()
}

// mute keeps everything from being written from now on.
func (l *link) mute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted = true
}

// cut takes the connection from its session and resets it. In this order, the
// client that comes back finds the session free and takes over nothing.
func (l *link) cut() {
	l.detach()
	l.reset()
}

func (l *link) detach() {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.b.leave(l)
}

// reset closes the connection by RST.
func (l *link) reset() {
	_ = l.tcp.SetLinger(0)
	_ = l.tcp.Close()
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write is the writing goroutine.
func (l *link) write() {
	w := bufio.NewWriterSize(l.tcp, 16<<10)
	for {
		batch, wait, ending := l.takeBatch()
		for _, o := range batch {
			if !l.writeOne(w, o) {
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		if err := w.Flush(); err != nil {
			_ = l.tcp.Close()
			return
		}
		if ending {
			l.farewell()
			return
		}
		select {
		case <-l.wake:
		case <-wait:
		case <-l.done:
			if !l.isEnding() {
				return
			}
		}
	}
}

// farewell closes our side by FIN and gives the client a second to read what
// was sent and close its own.
func (l *link) farewell() {
	_ = l.tcp.CloseWrite()
	select {
	case <-l.done:
	case <-time.After(time.Second):
	}
	_ = l.tcp.Close()
}

func (l *link) isEnding() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ending
}

// takeBatch takes what may be written now; wait fires when the next
// acknowledgement is due.
func (l *link) takeBatch() (batch []outgoing, wait <-chan time.Time, ending bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.muted {
		return nil, nil, false
	}
	batch, l.out = l.out, nil
	if !l.b.held.Load() {
		now := time.Now()
		due := 0
		for due < len(l.acks) && !l.acks[due].due.After(now) {
			due++
		}
		batch = append(batch, l.acks[:due]...)
		if l.acks = l.acks[due:]; len(l.acks) > 0 {
			wait = time.After(l.acks[0].due.Sub(now))
		}
	}
	return batch, wait, l.ending
}

// writeOne writes a packet into the buffer and tells whether to go on.
func (l *link) writeOne(w *bufio.Writer, o outgoing) bool {
	action := l.b.faultOut(l, o.packet)
	switch action {
	case Pass:
	case Drop:
		return true
	case Cut:
		// What was written before goes out; RST takes the rest.
		_ = w.Flush()
		l.cut()
		return false
	case CutAfter:
		// From here on nothing that the client sends counts, its answer to
		// this packet neither.
		l.finish()
		l.detach()
	}
	if o.exchange != nil {
		// Settled before the client can know it, so that it cannot be blamed
		// for using the identifier again too early.
		o.exchange.settled.Store(true)
		l.mu.Lock()
		delete(l.inFlight, o.packet.PacketID)
		l.mu.Unlock()
	}
	l.b.logf("%d %s -> %s", l.index, l.clientID, o.packet)
	_, err := w.Write(o.packet.Encode())
	if err == nil && action == CutAfter {
		if err = w.Flush(); err == nil {
			l.farewell()
			return false
		}
	}
	if err != nil {
		_ = l.tcp.Close()
		return false
	}
	return true
}
