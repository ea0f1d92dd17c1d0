package brokertest_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// A client that has nothing to do with this project finds the broker to be
// one, and the broker finds no fault with the client.
func TestMosquittoClients(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{ReceiveMaximum: 5})
	_, port, err := net.SplitHostPort(b.Addr())
	require.NoError(t, err)
	for qos := range 3 {
		topic := fmt.Sprintf("lines/%d", qos)
		args := []string{"-V", "5", "-h", "127.0.0.1", "-p", port, "-q", fmt.Sprint(qos), "-t", topic}

		sub := testenv.Start(t, exec.Command(testenv.Program(t, "mosquitto_sub", "mosquitto-clients"),
			append(args, "-C", "200", "-W", "10")...))
		require.NoError(t, b.Wait(timeout(t), func() bool { return b.Subscribers(topic) == 1 }))
		var lines strings.Builder
		for i := range 200 {
			fmt.Fprintf(&lines, "line %d\n", i)
		}

		pub := exec.CommandContext(t.Context(), testenv.Program(t, "mosquitto_pub", "mosquitto-clients"), append(args, "-l")...)
		pub.Stdin = strings.NewReader(lines.String())
		out, err := pub.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, 0, sub.Wait(testenv.DefaultTimeout))
		require.Equal(t, lines.String(), sub.Stdout.String())
		require.Len(t, b.FirstArrivals(topic), 200)
	}
	require.Empty(t, b.Violations())
}

func TestListenTLS(t *testing.T) {
	t.Parallel()
	// httptest brings a certificate for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	l := brokertest.ListenTLS(t, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
	require.True(t, strings.HasPrefix(l.URL(), "mqtts://"))
	require.Equal(t, "mqtts", l.ParsedURL().Scheme)
	wait := l.Script(func(c *brokertest.Conn) {
		c.Handshake()
		c.Reset()
	})
	nc, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", l.Addr())
	require.NoError(t, err)
	defer func() { _ = nc.Close() }()
	connect := brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: "c"}}
	_, err = nc.Write(connect.Encode())
	require.NoError(t, err)
	raw, err := brokertest.ReadRaw(nc)
	require.NoError(t, err)
	require.True(t, bytes.Equal([]byte{0x20, 3, 0, 0, 0}, raw))
	_, err = brokertest.ReadRaw(nc)
	require.Error(t, err)
	wait()
}
