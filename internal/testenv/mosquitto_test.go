package testenv_test

import (
	"context"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// publish and receive by mosquitto's own clients.
func publish(t *testing.T, m *testenv.MosquittoServer, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"-V", "5", "-h", m.Host(), "-p", strconv.Itoa(m.Port())}, args...)

	text, err := exec.CommandContext(t.Context(), testenv.Program(t, "mosquitto_pub", "mosquitto-clients"), args...).CombinedOutput()
	return string(text), err
}

// session connects by hand and returns whether the server had a session.
func session(t *testing.T, m *testenv.MosquittoServer, clientID string) (*brokertest.Conn, bool) {
	t.Helper()
	c := brokertest.Dial(t, m.Addr())
	c.Send(&brokertest.Packet{
		Type:       brokertest.CONNECT,
		Connect:    &brokertest.Connect{ClientID: clientID, KeepAlive: 60},
		Properties: brokertest.Properties{brokertest.SessionExpiryInterval(3600)},
	})
	return c, c.ExpectConnack(brokertest.HasCode(0)).SessionPresent
}

func TestMosquittoKeepsSessionsWhenStoppedAndNotWhenKilled(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{Persistence: true})
	addr := m.Addr()
	_, present := session(t, m, "a")
	require.False(t, present)
	m.Stop()
	require.Error(t, testenv.Probe(t.Context(), addr))
	m.Start()
	require.Equal(t, addr, m.Addr())
	_, present = session(t, m, "a")
	require.True(t, present)
	_, present = session(t, m, "b")
	require.False(t, present)
	m.Kill()
	m.Start()
	_, present = session(t, m, "b")
	require.False(t, present)
	_, present = session(t, m, "a")
	require.True(t, present, "the session that was saved before")
	require.Contains(t, m.Log(), "mosquitto version")
}

func TestMosquittoLimits(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{
		MaxInflightMessages: new(7),
		MaxQueuedMessages:   new(10),
		MaxPacketSize:       new(1000),
		MessageSizeLimit:    new(500),
		Extra:               []string{"max_keepalive 33"},
	})
	c := brokertest.Dial(t, m.Addr())
	c.Send(&brokertest.Packet{
		Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: "c", CleanStart: true, KeepAlive: 60},
	})
	p := c.ExpectConnack(brokertest.HasCode(0)).Properties
	for id, want := range map[brokertest.PropertyID]uint32{
		brokertest.PropReceiveMaximum:    7,
		brokertest.PropMaximumPacketSize: 1000,
		brokertest.PropServerKeepAlive:   33,
	} {
		got, ok := p.Num(id)
		require.True(t, ok, "property 0x%02X", byte(id))
		require.Equal(t, want, got, "property 0x%02X", byte(id))
	}
}

func TestMosquittoUsersAndACL(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{
		Users: map[string]string{"ann": "secret"},
		ACL:   []string{"user ann", "topic write open"},
	})
	out, err := publish(t, m, "-t", "open", "-m", "x", "-q", "1")
	require.Error(t, err, "no user: %s", out)
	out, err = publish(t, m, "-u", "ann", "-P", "secret", "-t", "open", "-m", "x", "-q", "1")
	require.NoError(t, err, out)

	code := func(topic string) byte {
		c := brokertest.Dial(t, m.Addr())
		defer c.Close()
		c.Send(&brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{
			ClientID: "c", CleanStart: true, KeepAlive: 60, Username: new("ann"), Password: new("secret"),
		}})
		c.ExpectConnack(brokertest.HasCode(0))
		c.SendPublish(brokertest.Packet{PacketID: 1, QoS: 1, Topic: topic})
		return c.ExpectPuback().Code
	}
	require.EqualValues(t, 0x10, code("open"))
	require.EqualValues(t, 0x87, code("shut"))
	m.SetACL("user ann", "topic write shut")
	deadline := time.Now().Add(testenv.DefaultTimeout)
	for code("shut") != 0x10 {
		require.True(t, time.Now().Before(deadline), "the new ACL has no effect")
	}
	require.EqualValues(t, 0x87, code("open"))
}

func TestMosquittoPause(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	m.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, testenv.Probe(ctx, m.Addr()))
	m.Continue()
	require.NoError(t, testenv.Probe(t.Context(), m.Addr()))
}
