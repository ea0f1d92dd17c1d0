package doctor_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/doctor"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/loopback"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func broker(url string) autopaho.Config { return autopaho.Config{Servers: []string{url}} }

func examine(t *testing.T, cfg doctor.Config) doctor.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cfg.Drivers = []persist.Driver{sqlite.Driver{}, postgres.Driver{}, redis.Driver{}, memory.Driver{}}
	r, err := doctor.Run(ctx, cfg)
	require.NoError(t, err)
	require.NotEmpty(t, r.Verdict)
	return r
}

// expect compares the severities of findings; "" is one that must not be there.
func expect(t *testing.T, r *doctor.Report, want map[string]doctor.Severity) {
	t.Helper()
	for id, severity := range want {
		f := r.Finding(id)
		if severity == "" {
			require.Nil(t, f, id)
			continue
		}
		require.NotNil(t, f, id)
		require.Equal(t, severity, f.Severity, "%s: %s", id, f.Text)
		require.NotEmpty(t, f.Text, id)
	}
}

// brief is the patience of tests in which much does not come.
const brief = 2 * time.Second

func state(t *testing.T, r *doctor.Report, id string) doctor.State {
	t.Helper()
	for i := range r.Promises {
		if r.Promises[i].ID == id {
			return r.Promises[i].State
		}
	}
	t.Fatalf("there is no promise %s", id)
	return ""
}

// TestEveryPromiseHolds: a good broker and a good store, and no session is left.
func TestEveryPromiseHolds(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	file := filepath.Join(t.TempDir(), "store.db")
	s, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	r := examine(t, doctor.Config{Broker: broker(m.URL()), Store: "sqlite://" + file})
	for i := range r.Findings {
		require.NotContains(t, []doctor.Severity{doctor.Warn, doctor.Bad}, r.Findings[i].Severity, "%+v", r.Findings[i])
	}
	expect(t, &r, map[string]doctor.Severity{
		"session.kept": doctor.OK, "session.queued": doctor.OK, "session.redelivered": doctor.OK, "session.takeover": doctor.OK,
		"qos2.resumed": doctor.OK, "retained.kept": doctor.OK, "shared.shares": doctor.OK, "shared.kept": doctor.OK,
		"wildcard.matches": doctor.OK, "message.expiry": doctor.OK, "session.expiry": doctor.OK, "broker.throughput": doctor.Info,
		"broker.receive-maximum": doctor.Info, // 20
		"store.journal-mode":     doctor.OK, "store.clock": doctor.OK, "store.transactions": doctor.OK, "broker.tidy": "",
	})
	for _, p := range r.Promises {
		if p.ID != "broker-restart" {
			require.Equal(t, doctor.Holds, p.State, p.ID)
		}
	}
	require.Equal(t, doctor.Untested, state(t, &r, "broker-restart"))
	require.Equal(t, "every promise that was looked at holds; not tested: broker-restart", r.Verdict)
	// What was retained is gone.
	u, err := session.ParseServer(m.URL())
	require.NoError(t, err)
	p, err := session.OpenProbe(t.Context(), session.Config{
		ClientID: "after", KeepAlive: time.Minute, ConnectTimeout: time.Minute, CleanStart: true,
		Engine: session.EngineConfig{ReceiveMaximum: 100, MaximumPacketSize: 1 << 20},
	}, u)
	require.NoError(t, err)
	defer p.Drop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, p.Subscribe(ctx, "oncemq/doctor/#", 0))
	left, err := p.Received(ctx)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestRestart: what mosquitto keeps with its state on disk, and without.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		persistence bool
		want        map[string]doctor.Severity
	}{
		"kept": {true, map[string]doctor.Severity{
			"restart.session": doctor.OK, "restart.queued": doctor.OK, "restart.retained": doctor.OK,
			"restart.shared": doctor.Warn, // mosquitto 2.0.11, as the operations page says
		}},
		"forgotten": {false, map[string]doctor.Severity{
			"restart.session": doctor.Warn, "restart.queued": doctor.Warn, "restart.retained": doctor.Warn,
			"restart.shared": doctor.Warn, "restart.qos2": doctor.Warn,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{Persistence: c.persistence})
			r := examine(t, doctor.Config{Broker: broker(m.URL()), Quick: true, Patience: brief, Restart: func(context.Context) error {
				m.Stop()
				m.Start()
				return nil
			}})
			c.want["restart.done"] = doctor.Info
			expect(t, &r, c.want)
			require.Equal(t, doctor.Weakened, state(t, &r, "broker-restart"))
			require.Contains(t, r.Verdict, "weakened: group, broker-restart")
		})
	}
}

// TestMosquittoWithLess: limits are found, and what they rule out is not tried.
func TestMosquittoWithLess(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_qos 1", "retain_available false", "max_packet_size 5000"}})
	r := examine(t, doctor.Config{Broker: broker(m.URL()), Quick: true})
	expect(t, &r, map[string]doctor.Severity{
		"broker.maximum-qos": doctor.Bad, "broker.retain": doctor.Info, "broker.maximum-packet-size": doctor.Info,
		"qos2.resumed": "", "retained.kept": "", "session.kept": doctor.OK,
	})
	require.Equal(t, doctor.Broken, state(t, &r, "exactly-once"))
	require.Equal(t, doctor.Holds, state(t, &r, "away"))
	require.Equal(t, doctor.Untested, state(t, &r, "enqueue"), "there is no store")
}

// TestNotAllowed: a user without rights learns which are needed.
func TestNotAllowed(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{ACL: []string{"topic readwrite elsewhere/#"}})
	r := examine(t, doctor.Config{Broker: broker(m.URL()), Quick: true})
	expect(t, &r, map[string]doctor.Severity{"session.kept": doctor.Warn, "broker.throughput": doctor.Warn})
	require.Contains(t, r.Finding("session.kept").Remedy, "oncemq/doctor/")
	for _, id := range []string{"away", "exactly-once", "group"} {
		require.Equal(t, doctor.Weakened, state(t, &r, id), "%s: what it rests on could not be tried out", id)
	}
	r = examine(t, doctor.Config{Broker: broker(m.URL()), TopicPrefix: "elsewhere", Quick: true})
	expect(t, &r, map[string]doctor.Severity{"session.kept": doctor.OK})
}

// TestForgetfulBroker: a broker without sessions, and with limits, is found out.
func TestForgetfulBroker(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{
		ForgetSessions: true, ReceiveMaximum: 7, MaximumPacketSize: 3000, ServerKeepAlive: 300, RetainUnavailable: true,
	})
	require.NoError(t, err)
	defer b.Close()
	r := examine(t, doctor.Config{Broker: broker(b.URL()), Store: "memory:", Quick: true, Patience: brief})
	expect(t, &r, map[string]doctor.Severity{
		"session.kept": doctor.Bad, "qos2.resumed": doctor.Bad, "broker.receive-maximum": doctor.Info, "broker.keep-alive": doctor.Info,
		"broker.retain": doctor.Info, "shared.shares": doctor.OK, "shared.kept": doctor.Warn, "store.durability": doctor.Bad, "broker.tidy": "",
	})
	require.Contains(t, r.Finding("broker.receive-maximum").Text, "7 messages in flight")
	require.Contains(t, r.Finding("broker.maximum-packet-size").Text, "3000 bytes")
	require.Contains(t, r.Finding("broker.keep-alive").Text, "keep alive of 5m, set by the broker")
	for _, id := range []string{"away", "exactly-once", "enqueue"} {
		require.Equal(t, doctor.Broken, state(t, &r, id), id)
	}
	require.Empty(t, b.Violations(), "doctor keeps to the specification")
}

// TestLeavesNothing: a broker that keeps sessions has none afterwards.
func TestLeavesNothing(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	defer b.Close()
	r := examine(t, doctor.Config{Broker: broker(b.URL())})
	expect(t, &r, map[string]doctor.Severity{
		"message.expiry": doctor.Warn, "session.expiry": doctor.OK, // it ends sessions and no messages
		"session.kept": doctor.OK, "qos2.resumed": doctor.OK, "retained.kept": doctor.OK, "broker.tidy": "",
	})
	require.Eventually(t, func() bool { return b.Sessions() == 0 }, 20*time.Second, 5*time.Millisecond)
	require.Empty(t, b.Violations())

	// Nor after an end in between.
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("ended by the test")
	_, err = doctor.Run(ctx, doctor.Config{Broker: broker(b.URL()), Quick: true, Restart: func(ctx context.Context) error {
		cancel(ended)
		return ctx.Err()
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { return b.Sessions() == 0 }, 20*time.Second, 5*time.Millisecond)
}

// TestBrokerThatCannotBeUsed: MQTT 3.1.1 only, a refusal, and nobody there.
func TestBrokerThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			answerOld(nc)
		}
	}()
	r := examine(t, doctor.Config{Broker: broker("mqtt://" + ln.Addr().String())})
	require.ErrorIs(t, r.BrokerErr, session.ErrOldProtocol)
	expect(t, &r, map[string]doctor.Severity{"broker.connect": doctor.Bad, "session.kept": ""})
	require.Contains(t, r.Verdict, "the broker cannot be used")
	require.NoError(t, ln.Close())
	<-done
	r = examine(t, doctor.Config{Broker: broker("mqtt://" + ln.Addr().String())})
	require.Error(t, r.BrokerErr)

	b, err := brokertest.NewBroker(brokertest.Options{Credentials: map[string]string{"u": "right"}})
	require.NoError(t, err)
	defer b.Close()
	cfg := broker(b.URL())
	cfg.Username, cfg.Password = "u", []byte("canary")
	r = examine(t, doctor.Config{Broker: cfg, Quick: true})
	require.ErrorIs(t, r.BrokerErr, autopaho.ErrRefused)
	require.NotContains(t, r.Finding("broker.connect").Text, "canary")
	// The second of two is good.
	cfg = broker(b.URL())
	cfg.Servers = []string{"mqtt://u:right@" + ln.Addr().String(), b.URL()}
	r = examine(t, doctor.Config{Broker: cfg, Quick: true})
	require.NoError(t, r.BrokerErr)
	require.Equal(t, b.URL(), r.Broker)
}

// answerOld is what mosquitto 1.4 says to a CONNECT.
func answerOld(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	raw, err := brokertest.ReadRaw(nc)
	if err != nil || len(raw) < 9 {
		return
	}
	code := byte(0)
	if raw[8] != 4 { // protocol level, behind a length of one byte and "MQTT"
		code = 1
	}
	_, _ = nc.Write([]byte{0x20, 2, 0, code})
}

// TestConfig: what is wrong is named.
func TestConfig(t *testing.T) {
	t.Parallel()
	for text, cfg := range map[string]doctor.Config{
		"Broker: neither":     {},
		"TopicPrefix: ":       {Broker: broker("mqtt://h"), TopicPrefix: "a/#"},
		"Drivers: ":           {Store: "memory:"},
		"Servers: ":           {Broker: broker("http://h")},
		"Restart: there is":   {Store: "memory:", Drivers: []persist.Driver{memory.Driver{}}, Restart: func(context.Context) error { return nil }},
		"scheme \"x\" is unk": {Store: "x:", Drivers: []persist.Driver{memory.Driver{}}},
		"Patience: -1s is":    {Broker: broker("mqtt://h"), Patience: -time.Second},
	} {
		_, err := doctor.Run(t.Context(), cfg)
		require.ErrorContains(t, err, text)
	}
}
