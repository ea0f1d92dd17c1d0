package fault

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a client's connection and the one to the server that belongs to it.
// Its goroutine waits for two in each direction: one reads, one writes, so that
// latency does not limit how much is under way.
type conn struct {
	p      *Proxy
	index  int
	client stream

	// swallow: nothing is forwarded any more, the end of a stream neither.
	swallow atomic.Bool
	passed  [2]int64 // guarded by Proxy.mu

	inspector Inspector   // nil for none
	packets   [2]splitter // each of its direction's reader

	// done is closed when the connection is cut by RST or over, ended when
	// nothing more will be written in a direction.
	done   chan struct{}
	finish sync.Once
	ended  [2]chan struct{}

	mu     sync.Mutex
	server stream // nil until dialled
	reset  bool
}

func newConn(p *Proxy, client *net.TCPConn, index int) *conn {
	return &conn{
		p: p, index: index, client: tcpStream{client},
		done:  make(chan struct{}),
		ended: [2]chan struct{}{make(chan struct{}), make(chan struct{})},
	}
}

// chunk is what was read at once, or a reset. A reset takes its turn in the
// stream: what the sender sent before it would have arrived without a proxy.
type chunk struct {
	data  []byte
	reset bool
	end   bool // by FIN, after the data
	due   time.Time
}

func (c *conn) run(life time.Duration) {
	defer c.p.remove(c)
	if c.inspector != nil {
		defer c.inspector.Closed(c.index)
	}
	defer c.cut(RST) // closes what is left; nothing after a proper end
	if life > 0 {
		timer := time.AfterFunc(life, func() { c.cut(RST) })
		defer timer.Stop()
	}
	if c.swallow.Load() {
		// A black hole has no server.
		c.read(ToServer, c.client, nil)
		return
	}
	if !c.dial() {
		return
	}
	var streams sync.WaitGroup
	for d, ends := range [2][2]stream{{c.client, c.server}, {c.server, c.client}} {
		chunks := make(chan chunk, 64)
		streams.Go(func() { c.read(Direction(d), ends[0], chunks) })
		streams.Go(func() { c.write(Direction(d), ends[1], chunks) })
	}
	streams.Wait()
	// Both streams have ended: close by FIN, which cut would not.
	c.finish.Do(func() {
		close(c.done)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}

// dial connects to the server and tells whether to go on. A server that
// refuses shows to the client as a reset.
func (c *conn) dial() bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	c.p.goroutines.Go(func() {
		select {
		case <-c.done:
			cancel()
		case <-stop:
		}
	})
	server, err := c.p.dial(ctx)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reset {
		server.reset()
		return false
	}
	c.server = server
	return true
}

// cut ends the connection. A cut by RST after one by FIN closes what that left
// open; another one does nothing.
func (c *conn) cut(how How) {
	if how == FIN {
		c.swallow.Store(true)
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.client.CloseWrite()
		if c.server != nil {
			_ = c.server.CloseWrite()
		}
		return
	}
	c.finish.Do(func() {
		close(c.done)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.reset = true
		c.client.reset()
		if c.server != nil {
			c.server.reset()
		}
	})
}

// read reads a stream until it ends, and closes chunks.
func (c *conn) read(d Direction, from stream, chunks chan<- chunk) {
	if chunks != nil {
		defer close(chunks)
	}
	buf := make([]byte, 32<<10)
	for {
		faults, ok := c.awaitGo(d)
		if !ok {
			return
		}
		n, err := from.Read(buf)
		// What has arrived while reading was stopped belongs to the time after.
		if n > 0 && !c.swallow.Load() {
			data, cut := append([]byte(nil), buf[:n]...), false
			if c.inspector != nil {
				data, cut = c.inspect(d, data)
			}
			k := chunk{data: data, reset: cut && d == ToServer, end: cut && d == ToClient, due: time.Now().Add(faults.latency)}
			select {
			case chunks <- k:
			case <-c.done:
				return
			}
			if cut {
				return
			}
		}
		if err != nil {
			if errors.Is(err, syscall.ECONNRESET) && !c.swallow.Load() {
				select {
				case chunks <- chunk{reset: true, due: time.Now().Add(faults.latency)}:
				case <-c.done:
				}
			}
			return
		}
	}
}

// awaitGo waits until a direction is not stopped. It returns false if the
// connection is over.
func (c *conn) awaitGo(d Direction) (streamFaults, bool) {
	for {
		faults, changed := c.p.stream(d)
		if !faults.stopped || c.swallow.Load() {
			return faults, true
		}
		select {
		case <-changed:
		case <-c.done:
			return faults, false
		}
	}
}

// write forwards a stream until chunks is closed, and then ends it.
func (c *conn) write(d Direction, to stream, chunks <-chan chunk) {
	defer close(c.ended[d])
	for k := range chunks {
		if !c.wait(time.Until(k.due)) {
			return
		}
		if !c.forward(d, to, k.data) {
			c.refused(d, chunks)
			return
		}
		if k.reset && !c.swallow.Load() {
			c.cut(RST)
			return
		}
		if k.end {
			c.cut(FIN)
			return
		}
	}
	// A stream that ended because the connection was cut has no end of its own
	// to pass on: FIN could overtake the RST.
	select {
	case <-c.done:
		return
	default:
	}
	if !c.swallow.Load() {
		_ = to.CloseWrite()
	}
}

// refused throws away what cannot be written because the receiver has closed
// the connection. What the receiver itself sent before is still delivered;
// then the sender learns of it by a reset, as it would without a proxy.
func (c *conn) refused(d Direction, chunks <-chan chunk) {
	for {
		select {
		case _, ok := <-chunks:
			if !ok {
				chunks = nil
			}
		case <-c.ended[1-d]:
			if !c.swallow.Load() {
				c.cut(RST)
			}
			return
		case <-c.done:
			return
		}
	}
}

// forward writes data under the faults of the moment, and returns false if it
// cannot be written or the connection is over.
func (c *conn) forward(d Direction, to stream, data []byte) bool {
	for len(data) > 0 {
		faults, ok := c.awaitGo(d)
		if !ok {
			return false
		}
		if c.swallow.Load() {
			return true
		}
		piece := len(data)
		if faults.slice > 0 {
			piece = min(piece, faults.slice)
		}
		if faults.loss > 0 {
			piece = min(piece, segment)
			if !c.wait(c.p.lostFor(d)) {
				return false
			}
		}
		if faults.bandwidth > 0 {
			const perSecond = 50
			piece = min(piece, max(1, faults.bandwidth/perSecond))
			if !c.wait(time.Duration(piece) * time.Second / time.Duration(faults.bandwidth)) {
				return false
			}
		}
		n, plan := c.p.pass(c, d, piece)
		if _, err := to.Write(data[:n]); err != nil {
			return false
		}
		if plan != nil {
			c.cut(plan.how)
			return plan.how == FIN
		}
		data = data[n:]
	}
	return true
}

// wait waits so long, and returns false if the connection ends before.
func (c *conn) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.done:
		return false
	}
}
