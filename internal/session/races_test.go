package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// Drops in a loop, while messages of every QoS go both ways and are
// acknowledged from many goroutines: every message ends once, every received
// one comes until it was acknowledged, and of QoS 2 none comes twice.
func TestEverythingAtOnceOverBadConnections(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{Seed: seed, DropEvery: brokertest.Range{Min: 30, Max: 150}})
			work := make(chan *Delivery, 10_000)
			p := start(t, b.URL())
			p.mu.Lock()
			p.onReceive = func(d *Delivery) { work <- d }
			p.mu.Unlock()
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					for d := range work {
						d.Stale()
						d.Ack(0)
						d.Ack(0x80)
					}
				})
			}
			for {
				_, err := p.link.Subscribe(within(t, patience), []Subscription{{Filter: "in", QoS: 2}}, 0)
				if err == nil {
					break
				}
				require.ErrorIs(t, err, ErrConnectionLost)
				require.NoError(t, p.link.Await(within(t, patience)))
			}

			const n = 600
			rng := rand.New(rand.NewPCG(seed, 0))
			var all []*Outgoing
			for i := range n {
				all = append(all, p.send(message("out", byte(rng.IntN(3)), fmt.Sprint(i)))...)
				b.Publish(brokertest.Packet{Topic: "in", QoS: byte(i%2 + 1), Payload: fmt.Appendf(nil, "%d", i)})
				if i%50 == 0 {
					p.link.Drop()
				}
			}
			p.allEnd(all)
			p.wait("all messages of the broker", func() bool {
				seen := make(map[string]bool)
				for _, d := range p.got {
					seen[string(d.Message.Payload)] = true
				}
				return len(seen) == n
			})
			require.NoError(t, p.link.Engine().WaitIdle(within(t, patience)))
			require.NoError(t, p.link.Close(within(t, patience)))
			p.balance()
			close(work)
			workers.Wait()

			p.mu.Lock()
			defer p.mu.Unlock()
			twice := make(map[string]bool)
			for _, d := range p.got {
				if d.Message.QoS == 2 {
					require.False(t, twice[string(d.Message.Payload)], "%s came twice at QoS 2", d.Message.Payload)
					twice[string(d.Message.Payload)] = true
				}
			}
			require.Greater(t, len(p.downs), 10, "the connections were not bad enough")
			require.Empty(t, b.Violations())
			// The broker keeps sessions: nothing above QoS 0 needs to arrive twice
			// as new, and order holds.
			last := -1
			for _, a := range b.FirstArrivals("out") {
				i := 0
				_, err := fmt.Sscan(string(a.Packet.Payload), &i)
				require.NoError(t, err)
				require.Greater(t, i, last, "order")
				last = i
			}
		})
	}
}

// A connection may end while the reader has answers that it has not told of yet:
// they are told once.
func TestAnswersAreToldOnceWhenTheConnectionEnds(t *testing.T) {
	t.Parallel()
	told := 0
	cfg := testConfig("mqtt://x").Engine
	cfg.Completed = func(done []Completion) { told += len(done) }
	e := NewEngine(cfg)
	c := newConn(noConn{}, e)
	e.conn, e.gen, c.begun = c, 1, true
	o := &Outgoing{Message: message("t", 1, "m"), gen: 1, packetID: 1, step: persist.StepPublished}
	e.flights.push(o)
	e.ids.set(1, o)
	_, err := e.handle(c, typePuback<<4, []byte{0, 1})
	require.NoError(t, err)
	require.NoError(t, e.ConnectionLost(nil))
	require.Equal(t, 1, told)
	e.batchEnd()
	require.Equal(t, 1, told)
	require.Empty(t, e.Withdraw())
}

// Close at every moment: before the first connection, between any two
// completions, during a reconnect. The books balance, and all goroutines are
// gone (TestMain).
func TestCloseAtEveryMoment(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Seed: 1, DropEvery: brokertest.Range{Min: 10, Max: 60}})
	for i := range 60 {
		p := start(t, b.URL(), func(c *Config) { c.ClientID = fmt.Sprint("close-", i) })
		for j := range 60 {
			p.send(message("t", byte(j%3), fmt.Sprint(i, "-", j)))
		}
		p.wait("completions", func() bool { return len(p.order) >= i })
		var closers sync.WaitGroup
		for range 2 { // it is idempotent, also at the same time
			closers.Go(func() { _ = p.link.Close(within(t, patience)) })
		}
		closers.Go(p.link.Drop)
		closers.Go(func() {
			_, err := p.link.Subscribe(within(t, patience), []Subscription{{Filter: "a"}}, 0)
			if err != nil && !errors.Is(err, ErrClosed) {
				require.ErrorIs(t, err, ErrConnectionLost)
			}
		})
		closers.Wait()
		p.balance()
		require.ErrorIs(t, p.link.Err(), ErrClosed)
	}
}

// Close does not wait longer than its context for a server that has stopped
// reading.
func TestCloseOfAStuckConnection(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.Engine.WindowBytes = 64 << 20 })
	c := l.Accept(t.Context())
	c.Handshake()
	c.StopReading()
	p.up(0)
	for range 40 {
		m := message("t", 1, "m")
		m.Payload = make([]byte, 1<<19)
		p.send(m)
	}
	p.wait("the writer to be stuck", func() bool { return len(p.taken) > 0 })
	began := time.Now()
	require.NoError(t, p.link.Close(within(t, patience/100)))
	require.Less(t, time.Since(began), patience/2)
	p.balance()
}
