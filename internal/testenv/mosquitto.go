package testenv

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/loopback"
)

// MosquittoOptions are settings of a mosquitto server, named as in
// mosquitto.conf(5). A nil number leaves mosquitto's default.
type MosquittoOptions struct {
	// Persistence keeps sessions and messages in a file, which mosquitto writes
	// when it is stopped, but not when it is killed (see autosave_interval).
	Persistence bool
	// MaxInflightMessages is the Receive Maximum that mosquitto announces and
	// its own window (20); 0 is unlimited.
	MaxInflightMessages *int
	// MaxQueuedMessages is how many messages it keeps for a client beyond the
	// window (1000); 0 is unlimited.
	MaxQueuedMessages *int
	// MessageSizeLimit is the largest payload that it takes, in bytes.
	MessageSizeLimit *int
	// MaxPacketSize is the Maximum Packet Size that it announces, in bytes.
	MaxPacketSize *int
	// Users and their passwords; anybody may connect if it is empty.
	Users map[string]string
	// ACL are the lines of its ACL file. Everything is allowed if it is empty.
	ACL []string
	// Extra lines of the configuration.
	Extra []string
}

// MosquittoServer is a private mosquitto on a loopback port.
type MosquittoServer struct {
	t       testing.TB
	options MosquittoOptions
	program string
	dir     string
	port    int
	process *Process
	log     strings.Builder // of processes that have ended
}

// Mosquitto starts a mosquitto in a temporary folder and returns when it
// accepts clients. It ends with the test; if the test failed its log is shown.
// The test is skipped, or fails, if mosquitto is not installed: see
// RequireServers.
func Mosquitto(tb testing.TB, options MosquittoOptions) *MosquittoServer {
	tb.Helper()
	m := &MosquittoServer{t: tb, options: options, program: Program(tb, "mosquitto", "mosquitto"), dir: tb.TempDir()}
	if len(options.Users) > 0 {
		m.writeUsers()
	}
	if len(options.ACL) > 0 {
		m.write("acl", options.ACL)
	}
	// Another test process may take the port between the look and the start.
	const attempts = 5
	for range attempts {
		port, err := loopback.FreePort(tb.Context())
		if err != nil {
			tb.Fatalf("testenv: %v", err)
		}
		m.port = port
		m.write("mosquitto.conf", m.config())
		if err = m.start(); err == nil {
			return m
		}
		tb.Logf("testenv: start mosquitto on port %d: %v", port, err)
	}
	tb.Fatalf("testenv: mosquitto does not start\n%s", m.Log())
	return nil
}

// Addr is the host and port, URL the same with the scheme mqtt.
func (m *MosquittoServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)) }

// Host is the address without the port.
func (m *MosquittoServer) Host() string { return "127.0.0.1" }

// Port is the port, the same after Start.
func (m *MosquittoServer) Port() int { return m.port }

// URL is the address with the scheme mqtt.
func (m *MosquittoServer) URL() string { return "mqtt://" + m.Addr() }

// ParsedURL is URL, for clients that want it parsed.
func (m *MosquittoServer) ParsedURL() *url.URL { return &url.URL{Scheme: "mqtt", Host: m.Addr()} }

// Stop ends the server with SIGTERM and returns when it is gone: with
// Persistence, everything is saved.
func (m *MosquittoServer) Stop() {
	m.t.Helper()
	m.process.Terminate()
	m.process.Wait(DefaultTimeout)
}

// Kill ends the server with SIGKILL and returns when it is gone: what was not
// saved is lost.
func (m *MosquittoServer) Kill() { m.t.Helper(); m.process.Kill() }

// Start starts the server again, on the same port and data, and returns when
// it accepts clients.
func (m *MosquittoServer) Start() {
	m.t.Helper()
	if m.process.Running() {
		m.t.Fatalf("testenv: mosquitto is running")
	}
	if err := m.start(); err != nil {
		m.t.Fatalf("testenv: start mosquitto: %v\n%s", err, m.Log())
	}
}

// Pause stops the server where it is (SIGSTOP) until Continue: connections stay
// open and nothing answers.
func (m *MosquittoServer) Pause() { m.t.Helper(); m.process.Pause() }

// Continue ends Pause.
func (m *MosquittoServer) Continue() { m.t.Helper(); m.process.Continue() }

// SetACL replaces the lines of the ACL file and has the running server read
// it; it takes effect a moment later. The server must have been started with
// an ACL.
func (m *MosquittoServer) SetACL(lines ...string) {
	m.t.Helper()
	if len(m.options.ACL) == 0 {
		m.t.Fatalf("testenv: mosquitto was started without an ACL")
	}
	m.write("acl", lines)
	m.process.Signal(syscall.SIGHUP)
}

// Log is what the server has logged so far, over all its starts.
func (m *MosquittoServer) Log() string {
	log := m.log.String()
	if m.process != nil {
		log += m.process.Stderr.String()
	}
	return log
}

// start runs the server until it accepts clients, or returns why not.
func (m *MosquittoServer) start() error {
	m.t.Helper()
	if m.process != nil {
		m.log.WriteString(m.process.Stderr.String())
	}
	//nolint:gosec,noctx // the program is the one that was looked up; Process ends it.
	m.process = Start(m.t, exec.Command(m.program, "-c", m.path("mosquitto.conf")))
	ctx, cancel := context.WithTimeout(m.t.Context(), DefaultTimeout)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		err := Probe(ctx, m.Addr())
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-m.process.Done():
			return fmt.Errorf("it ended with exit code %d", m.process.Wait(time.Second))
		case <-ctx.Done():
			m.process.Kill()
			return fmt.Errorf("it accepts no client: %w", err)
		}
	}
}

// Probe connects to an MQTT broker once, and returns nil if it answers with a
// CONNACK, even one that refuses.
func Probe(ctx context.Context, addr string) error {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	if err := nc.SetDeadline(deadline); err != nil {
		return err
	}
	connect := brokertest.Packet{
		Type:    brokertest.CONNECT,
		Connect: &brokertest.Connect{ClientID: "testenv-probe", CleanStart: true, KeepAlive: 10},
	}
	if _, err := nc.Write(connect.Encode()); err != nil {
		return err
	}
	raw, err := brokertest.ReadRaw(nc)
	if err != nil {
		return err
	}
	if p, err := brokertest.Decode(raw); err != nil || p.Type != brokertest.CONNACK {
		return fmt.Errorf("answer to CONNECT is % X", raw)
	}
	_, err = nc.Write((&brokertest.Packet{Type: brokertest.DISCONNECT}).Encode())
	return err
}

func (m *MosquittoServer) config() []string {
	o := m.options
	lines := []string{
		fmt.Sprintf("listener %d 127.0.0.1", m.port),
		fmt.Sprintf("allow_anonymous %t", len(o.Users) == 0),
		"log_dest stderr",
		"log_type all",
		fmt.Sprintf("persistence %t", o.Persistence),
		"persistence_location " + m.dir + "/",
	}
	// Started by root it would become the user mosquitto, who may not write
	// into the test's folder.
	if u, err := user.Current(); err == nil {
		lines = append(lines, "user "+u.Username)
	}
	for _, n := range []struct {
		name  string
		value *int
	}{
		{"max_inflight_messages", o.MaxInflightMessages},
		{"max_queued_messages", o.MaxQueuedMessages},
		{"message_size_limit", o.MessageSizeLimit},
		{"max_packet_size", o.MaxPacketSize},
	} {
		if n.value != nil {
			lines = append(lines, fmt.Sprintf("%s %d", n.name, *n.value))
		}
	}
	if len(o.Users) > 0 {
		lines = append(lines, "password_file "+m.path("users"))
	}
	if len(o.ACL) > 0 {
		lines = append(lines, "acl_file "+m.path("acl"))
	}
	return append(lines, o.Extra...)
}

// writeUsers writes the password file and has mosquitto's own tool hash it.
func (m *MosquittoServer) writeUsers() {
	m.t.Helper()
	var lines []string
	for name, password := range m.options.Users {
		lines = append(lines, name+":"+password)
	}
	m.write("users", lines)
	//nolint:gosec // the program is the one that was looked up.
	cmd := exec.CommandContext(m.t.Context(), Program(m.t, "mosquitto_passwd", "mosquitto"), "-U", m.path("users"))
	if text, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("testenv: mosquitto_passwd: %v\n%s", err, text)
	}
}

func (m *MosquittoServer) path(name string) string { return filepath.Join(m.dir, name) }

func (m *MosquittoServer) write(name string, lines []string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		m.t.Fatalf("testenv: %v", err)
	}
}
