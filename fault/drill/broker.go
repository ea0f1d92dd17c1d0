package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/mochi"
	"github.com/oncemq/oncemq/internal/session"
)

// Broker is the broker behind the proxies. Its methods are called by one goroutine.
type Broker interface {
	fault.Broker
	fmt.Stringer

	// Dial connects to it; what it returns carries MQTT's packets.
	Dial(ctx context.Context) (net.Conn, error)
	// Login adds to a configuration how clients log in.
	Login(cfg *autopaho.Config)
	// Restarts tells whether Kill and Start can be called.
	Restarts() bool
	// Close ends what was started.
	Close() error
}

// Embedded starts a broker within this process.
func Embedded(ctx context.Context) (Broker, error) {
	b, err := mochi.New(ctx, mochi.Options{})
	if err != nil {
		return nil, err
	}
	return &embedded{b}, nil
}

type embedded struct{ *mochi.Broker }

func (b *embedded) String() string             { return "the embedded broker" }
func (b *embedded) Restarts() bool             { return true }
func (b *embedded) Kill(context.Context) error { return b.Broker.Kill() }
func (b *embedded) Close() error               { return b.Broker.Kill() }

func (b *embedded) Login(*autopaho.Config) {}

func (b *embedded) Dial(ctx context.Context) (net.Conn, error) { return dial(ctx, b.Addr()) }

func dial(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// Remote is the broker of a configuration, which must name one server: over TLS, a
// WebSocket or whatever else its fields say. Restart is a command of the shell that
// restarts it; empty if it cannot be restarted.
func Remote(cfg autopaho.Config, restart string) (Broker, error) {
	if len(cfg.Servers) != 1 {
		return nil, errors.New("one run has one broker")
	}
	server, err := session.ParseServer(cfg.Servers[0])
	if err != nil {
		return nil, err
	}
	return &remote{cfg: cfg, server: server, restart: restart}, nil
}

type remote struct {
	cfg     autopaho.Config
	server  *url.URL
	restart string
}

func (b *remote) String() string {
	if b.server.Scheme == "unix" {
		return b.server.Path
	}
	return b.server.Host
}

func (b *remote) Restarts() bool { return b.restart != "" }
func (b *remote) Close() error   { return nil }

func (b *remote) Login(cfg *autopaho.Config) {
	cfg.Username, cfg.Password, cfg.Credentials = b.cfg.Username, b.cfg.Password, b.cfg.Credentials
}

func (b *remote) Dial(ctx context.Context) (net.Conn, error) {
	return session.DialServer(ctx, b.server, &session.Config{
		TLS: b.cfg.TLS, TLSFiles: b.cfg.TLSFiles, Header: b.cfg.Header, Dial: b.cfg.Dial,
	})
}

// Kill runs the command that restarts the broker; Start waits for it. An interrupt
// does not cut the command short, which could leave the broker dead.
func (b *remote) Kill(ctx context.Context) error {
	const most = time.Minute
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", b.restart) //nolint:gosec // it is the user's own command
	cmd.WaitDelay = time.Second
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("restart command: %w: %s", err, lastLine(text))
	}
	return nil
}

func (b *remote) Start(ctx context.Context) error { return accepts(ctx, b, nil) }

// lastLine is the end of what a command has said.
func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// accepts waits until a broker takes connections; ended, if there is such, tells that
// it never will.
func accepts(ctx context.Context, b Broker, ended <-chan struct{}) error {
	const most = time.Minute
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		nc, err := b.Dial(ctx)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-retry.C:
		case <-ended:
			return fmt.Errorf("%s: it has ended", b)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", b, err)
		}
	}
}

// probe looks whether the broker can be used at all, by a connection under a name: what
// is wrong behind a proxy cannot be told from a fault.
func probe(ctx context.Context, b Broker, name string) error {
	const most = 10 * time.Second
	var login autopaho.Config
	b.Login(&login)
	cfg := session.Config{
		ClientID: name, CleanStart: true, KeepAlive: time.Minute, ConnectTimeout: most,
		Username: login.Username, Password: login.Password, Credentials: login.Credentials,
		Dial:   func(ctx context.Context, _, _ string) (net.Conn, error) { return b.Dial(ctx) },
		Engine: session.EngineConfig{ReceiveMaximum: 256, MaximumPacketSize: 1 << 20},
	}
	p, err := session.OpenProbe(ctx, cfg, &url.URL{Scheme: "mqtt", Host: b.String()})
	switch {
	case errors.Is(err, session.ErrOldProtocol):
		return fmt.Errorf("%w: %s: %w", autopaho.ErrRefused, b, err)
	case err != nil:
		return fmt.Errorf("%s cannot be used: %w", b, err)
	}
	return p.End(ctx)
}
