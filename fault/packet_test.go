package fault_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
)

func connectOf(clientID string) []byte {
	p := brokertest.Packet{
		Type:       brokertest.CONNECT,
		Connect:    &brokertest.Connect{ClientID: clientID, KeepAlive: 60},
		Properties: brokertest.Properties{{ID: brokertest.PropSessionExpiryInterval, Num: 3600}},
	}
	return p.Encode()
}

func TestConnectFields(t *testing.T) {
	t.Parallel()
	packet := connectOf("a client")
	id, flags, err := fault.ConnectFields(packet)
	require.NoError(t, err)
	require.Equal(t, "a client", id)
	packet[flags] |= 2
	p, err := brokertest.Decode(packet)
	require.NoError(t, err)
	require.True(t, p.Connect.CleanStart)
	for n := range len(packet) {
		_, _, err := fault.ConnectFields(packet[:n])
		require.Error(t, err, n)
	}
	_, _, err = fault.ConnectFields([]byte("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"))
	require.ErrorContains(t, err, "not of MQTT 5")
}

// Whatever a client sends, reading it does no harm.
func FuzzConnectFields(f *testing.F) {
	f.Add(connectOf("a client"))
	f.Add([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packet []byte) {
		_, flags, err := fault.ConnectFields(packet)
		if err == nil {
			require.Less(t, flags, len(packet))
		}
	})
}

// However a stream comes in, its packets are the same, and nothing is missing before
// the last one that is whole.
func FuzzSplit(f *testing.F) {
	f.Add([]byte(ping+ack+ping), 3)
	f.Add([]byte("\x30\xff\xff\xff\xff\x01"), 2)
	f.Fuzz(func(t *testing.T, stream []byte, at int) {
		at = min(max(at, 0), len(stream))
		whole, pieces := fault.Split(stream, nil), fault.Split(stream[:at], stream[at:])
		require.Equal(t, whole, pieces)
		joined := bytes.Join(whole, nil)
		require.Equal(t, string(stream[:len(joined)]), string(joined))
	})
}
