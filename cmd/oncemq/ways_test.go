package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/loopback"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/qos/comparison"
)

// The commands that look at packets with a proxy, and status, work with a broker that takes no
// connection without a certificate, with WebSockets and with a Unix domain socket, as
// they do over TCP.
func TestEveryWayToTheBroker(t *testing.T) {
	t.Parallel()
	const user, password = "ann", "once only"
	dir, a := t.TempDir(), newAuthority(t)
	serverCert, serverKey := a.write(a.issue(x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}), 0o600)
	cert, key := a.write(a.issue(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), 0o600)
	secret, socket := filepath.Join(dir, "password"), filepath.Join(dir, "broker.sock")
	require.NoError(t, os.WriteFile(secret, []byte(password+"\n"), 0o600))
	var ports [2]int
	for i := range ports {
		port, err := loopback.FreePort(t.Context())
		require.NoError(t, err)
		ports[i] = port
	}
	b := testenv.Mosquitto(t, testenv.MosquittoOptions{
		Users: map[string]string{user: password},
		Extra: []string{
			fmt.Sprintf("listener %d 127.0.0.1", ports[0]), "cafile " + a.file, "certfile " + serverCert, "keyfile " + serverKey,
			"require_certificate true",
			fmt.Sprintf("listener %d 127.0.0.1", ports[1]), "protocol websockets",
			"listener 0 " + socket,
		},
	})
	store := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("store", "migrate", "--store", store)).code)
	ways := map[string][]string{
		"TCP":       {"-p", strconv.Itoa(b.Port())},
		"TLS":       {"-L", fmt.Sprintf("mqtts://127.0.0.1:%d", ports[0]), "--cafile", a.file, "--cert", cert, "--key", key},
		"WebSocket": {"-L", fmt.Sprintf("ws://127.0.0.1:%d/mqtt", ports[1])},
		"socket":    {"--unix", socket},
	}
	for name, way := range ways {
		way := append(way, "-u", user, "--password-file", secret, "--json")
		t.Run("qos/"+name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"qos", "--messages", "60", "--rate", "2000", "--cut-every", "30"}, way...)...))
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Empty(t, got.stderr)
			results := objects[comparison.Result](t, got.stdout)
			require.Len(t, results, 6)
			for _, r := range results {
				require.Equal(t, 60, r.Sent)
				require.Equal(t, r.Sent, r.Confirmed+r.Pending+r.Lost)
				if r.Level > 0 {
					require.Equal(t, 60, r.Confirmed)
					require.GreaterOrEqual(t, r.Packets.Publish, 60)
				}
				require.Equal(t, r.Link == comparison.Faulty, r.Cuts > 0)
			}
		})
		t.Run("status/"+name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"status", "--store", store}, way...)...))
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Contains(t, got.stdout, `"reachable":true`)
		})
		t.Run("chaos/"+name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"chaos", "run", "reset", "cut-after-pubrec", "session-forgotten", "--scale", "0.1"}, way...)
			got := runOnce(t, command(args...))
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Equal(t, 3, strings.Count(got.stdout, "\n"))
			require.Equal(t, 3, strings.Count(got.stdout, `"lost":0,"doubled":0`), got.stdout)
		})
	}
	tls := fmt.Sprintf("127.0.0.1:%d", ports[0])
	for want, options := range map[string][]string{
		"certificate signed by unknown authority": nil,
		"tls: certificate required":               {"--cafile", a.file},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"chaos", "run", "reset", "-L", "mqtts://" + tls}, options...)...))
			require.Equal(t, exitFailed, got.code)
			require.Contains(t, got.lastLine(), tls+" cannot be used: ")
			require.Contains(t, got.lastLine(), want)
		})
	}
}
