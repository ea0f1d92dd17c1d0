package chaos

import (
	"bufio"
	"context"
	"net"
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
	record  func(history.Op)
	arrived func() int

	mu      sync.Mutex // guards the following
	waiting []recovery
	pauses  []time.Duration // how long these took
	failed  error
}

// recovery is a fault that ended when so many messages had been accepted.
type recovery struct {
	since    time.Time
	accepted int
}

// watch begins to watch; it ends with the test.
func watch(t *testing.T, broker string, record func(history.Op), arrived func() int) *watcher {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", broker)
	require.NoError(t, err)
	w := &watcher{record: record, arrived: arrived}
	in := bufio.NewReaderSize(nc, 1<<16)
	exchange := func(p *brokertest.Packet, want brokertest.Type) {
		t.Helper()
		_, err := nc.Write(p.Encode())
		require.NoError(t, err)
		raw, err := brokertest.ReadRaw(in)
		require.NoError(t, err)
		answer, err := brokertest.Decode(raw)
		require.NoError(t, err)
		require.Equal(t, want, answer.Type)
	}
	exchange(&brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: "watcher", CleanStart: true}}, brokertest.CONNACK)
	exchange(&brokertest.Packet{
		Type: brokertest.SUBSCRIBE, PacketID: 1, Filters: []brokertest.Filter{{Topic: "chaos/#", QoS: 1}},
	}, brokertest.SUBACK)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(nc, in)
	}()
	t.Cleanup(func() {
		_ = nc.Close()
		<-done
	})
	return w
}

func (w *watcher) run(nc net.Conn, in *bufio.Reader) {
	for {
		raw, err := brokertest.ReadRaw(in)
		if err != nil {
			w.fail(err)
			return
		}
		p, err := brokertest.Decode(raw)
		if err != nil {
			w.fail(err)
			return
		}
		if p.Type != brokertest.PUBLISH {
			continue
		}
		v, err := history.ParseID(p.MessageID())
		if err != nil {
			w.fail(err)
			return
		}
		w.saw(v)
		if p.QoS == 0 {
			continue
		}
		if _, err := nc.Write((&brokertest.Packet{Type: brokertest.PUBACK, PacketID: p.PacketID}).Encode()); err != nil {
			w.fail(err)
			return
		}
	}
}

func (w *watcher) saw(v history.Value) {
	w.record(history.Op{Type: history.OK, Kind: history.Arrival, Values: []history.Value{v}})
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) > 0 && w.arrived() >= w.waiting[0].accepted {
		w.pauses = append(w.pauses, time.Since(w.waiting[0].since))
		w.waiting = w.waiting[1:]
	}
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = err
}

// broken tells why it has stopped watching; nil if it has not.
func (w *watcher) broken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// faultOver has the time measured until as many messages have arrived as were
// accepted by now.
func (w *watcher) faultOver(accepted int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, recovery{time.Now(), accepted})
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
