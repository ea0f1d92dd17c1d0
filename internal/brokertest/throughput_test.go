package brokertest_test

import (
	"bufio"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// BenchmarkBrokerQoS1 shows what the broker can take, so that nobody takes its
// limit for that of a client.
func BenchmarkBrokerQoS1(b *testing.B) {
	broker, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(b, err)
	defer broker.Close()
	nc, err := new(net.Dialer).DialContext(b.Context(), "tcp", broker.Addr())
	require.NoError(b, err)
	defer func() { _ = nc.Close() }()
	connect := brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: "c"}}
	_, err = nc.Write(connect.Encode())
	require.NoError(b, err)
	r := bufio.NewReader(nc)
	_, err = brokertest.ReadRaw(r)
	require.NoError(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	window := make(chan struct{}, 1000)
	var acks sync.WaitGroup
	acks.Go(func() {
		for range b.N {
			if _, err := brokertest.ReadRaw(r); err != nil {
				b.Error(err)
				return
			}
			<-window
		}
	})
	w := bufio.NewWriterSize(nc, 64<<10)
	publish := brokertest.Packet{Type: brokertest.PUBLISH, QoS: 1, Topic: "t", Payload: make([]byte, 256)}
	for i := range b.N {
		select {
		case window <- struct{}{}:
		default:
			require.NoError(b, w.Flush())
			window <- struct{}{}
		}
		publish.PacketID = uint16(i%60_000) + 1
		_, err := w.Write(publish.Encode())
		require.NoError(b, err)
	}
	require.NoError(b, w.Flush())
	acks.Wait()
	require.Empty(b, broker.Violations())
}
