package chaos

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/history"
)

// watcher subscribes beside the others, by a client of its own that shares
// nothing with the library, and sees what reaches the broker.
type watcher struct {
	record    func(history.Op)
	arrived   func() int
	forgetful bool

	mu      sync.Mutex // guards the following
	waiting []recovery
	over    []recovery
	failed  error
}

// recovery is a fault that ended when so many messages had been accepted.
type recovery struct {
	after    string
	since    time.Time
	accepted int
	took     time.Duration
}

// watch begins to watch; it ends with the test. With forgetful the broker may be
// killed and forget: then only receipts are recorded, since what arrived unseen must
// not look like disorder, and the connection is made again.
func watch(t *testing.T, broker string, record func(history.Op), arrived func() int, forgetful bool) *watcher {
	t.Helper()
	w := &watcher{record: record, arrived: arrived, forgetful: forgetful}
	nc, in, err := w.connect(t.Context(), broker)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			err := w.run(ctx, nc, in)
			if !forgetful || ctx.Err() != nil {
				w.fail(err)
				return
			}
			for nc = nil; nc == nil && ctx.Err() == nil; {
				if nc, in, err = w.connect(ctx, broker); err != nil {
					timer := time.NewTimer(20 * time.Millisecond)
					<-timer.C
				}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// connect connects and subscribes.
func (w *watcher) connect(ctx context.Context, broker string) (net.Conn, *bufio.Reader, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", broker)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(nc, 1<<16)
	for _, exchange := range []struct {
		say  brokertest.Packet
		want brokertest.Type
	}{
		{brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: "watcher", CleanStart: true}}, brokertest.CONNACK},
		{brokertest.Packet{Type: brokertest.SUBSCRIBE, PacketID: 1, Filters: []brokertest.Filter{
			{Topic: "chaos/#", QoS: 1}, {Topic: receiptTopics, QoS: 1},
		}}, brokertest.SUBACK},
	} {
		if _, err = nc.Write(exchange.say.Encode()); err != nil {
			break
		}
		var raw []byte
		if raw, err = brokertest.ReadRaw(in); err != nil {
			break
		}
		if got := brokertest.Type(raw[0] >> 4); got != exchange.want {
			err = fmt.Errorf("%s in answer to %s", got, exchange.say.Type)
			break
		}
	}
	if err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	return nc, in, nil
}

// receiptTopics are where relays listen.
const receiptTopics = "oncemq/receipts/#"

// run takes what comes until the connection ends, or ctx.
func (w *watcher) run(ctx context.Context, nc net.Conn, in *bufio.Reader) error {
	if nc == nil {
		return ctx.Err()
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	defer func() { _ = nc.Close() }()
	for {
		raw, err := brokertest.ReadRaw(in)
		if err != nil {
			return err
		}
		p, err := brokertest.Decode(raw)
		if err != nil {
			return err
		}
		if p.Type != brokertest.PUBLISH {
			continue
		}
		if err := w.published(p); err != nil {
			return err
		}
		if p.QoS == 0 {
			continue
		}
		if _, err := nc.Write((&brokertest.Packet{Type: brokertest.PUBACK, PacketID: p.PacketID}).Encode()); err != nil {
			return err
		}
	}
}

// published records an arrival or a receipt.
func (w *watcher) published(p *brokertest.Packet) error {
	if data, ok := p.Properties.Str(brokertest.PropCorrelationData); ok && strings.HasPrefix(p.Topic, strings.TrimSuffix(receiptTopics, "#")) {
		v, err := history.ParseID(data)
		if err == nil {
			w.record(history.Op{Type: history.OK, Kind: history.Receipt, Values: []history.Value{v}})
		}
		return err
	}
	if w.forgetful {
		return nil
	}
	v, err := history.ParseID(p.MessageID())
	if err == nil {
		w.saw(v)
	}
	return err
}

func (w *watcher) saw(v history.Value) {
	w.record(history.Op{Type: history.OK, Kind: history.Arrival, Values: []history.Value{v}})
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) > 0 && w.arrived() >= w.waiting[0].accepted {
		r := w.waiting[0]
		r.took = time.Since(r.since)
		w.over, w.waiting = append(w.over, r), w.waiting[1:]
	}
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = err // the end of the test is none: nobody looks any more
}

// broken tells why it has stopped watching; nil if it has not.
func (w *watcher) broken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// faultOver has the time measured until as many messages have arrived as were
// accepted by now.
func (w *watcher) faultOver(after string, accepted int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := recovery{after: after, since: time.Now(), accepted: accepted}
	if len(w.waiting) == 0 && w.arrived() >= accepted {
		// Nothing may arrive for a while: producers wait for subscribers that are behind.
		w.over = append(w.over, r)
		return
	}
	w.waiting = append(w.waiting, r)
}

// intrude takes a session for a moment, and gives it back as it was.
func intrude(ctx context.Context, broker, clientID string, d time.Duration) error {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", broker)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	if err := nc.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	connect := brokertest.Packet{
		Type:       brokertest.CONNECT,
		Connect:    &brokertest.Connect{ClientID: clientID},
		Properties: brokertest.Properties{brokertest.Num(brokertest.PropSessionExpiryInterval, 86_400)},
	}
	if _, err := nc.Write(connect.Encode()); err != nil {
		return err
	}
	if _, err := brokertest.ReadRaw(nc); err != nil {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
	_, err = nc.Write((&brokertest.Packet{Type: brokertest.DISCONNECT}).Encode())
	return err
}
