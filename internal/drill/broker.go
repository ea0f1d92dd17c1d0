package drill

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/mochi"
)

// Broker is the broker behind the proxies. Its methods are called by one goroutine.
type Broker interface {
	fault.Broker
	fmt.Stringer

	// Addr is the host and port.
	Addr() string
	// Login is how clients log in, and TLS with what; empty and nil for not at all.
	Login() (username, password string, config *tls.Config)
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

func (b *embedded) Login() (username, password string, config *tls.Config) { return "", "", nil }

// Remote is a broker that is there. Restart is a command of the shell that restarts
// it; empty if it cannot be restarted.
func Remote(rawURL, restart string, config *tls.Config) (Broker, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("cannot be parsed; it looks like mqtt://host:1883")
	}
	b := &remote{restart: restart}
	port := "1883"
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "ssl":
		port, b.tls = "8883", config
		if b.tls == nil {
			b.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	default:
		return nil, fmt.Errorf("has the scheme %q; the proxies understand mqtt:// and mqtts://", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("has no host; it looks like mqtt://host:1883")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("has more than a host and a port; it looks like mqtt://host:1883")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	b.addr = net.JoinHostPort(u.Hostname(), port)
	b.username = u.User.Username()
	b.password, _ = u.User.Password()
	return b, nil
}

type remote struct {
	addr, restart      string
	username, password string
	tls                *tls.Config
}

func (b *remote) String() string { return b.addr }
func (b *remote) Addr() string   { return b.addr }
func (b *remote) Restarts() bool { return b.restart != "" }
func (b *remote) Close() error   { return nil }

func (b *remote) Login() (username, password string, config *tls.Config) {
	return b.username, b.password, b.tls
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

func (b *remote) Start(ctx context.Context) error { return accepts(ctx, b.addr, nil) }

// lastLine is the end of what a command has said.
func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// accepts waits until somebody listens at an address; ended, if there is such, tells
// that nobody will.
func accepts(ctx context.Context, addr string, ended <-chan struct{}) error {
	const most = time.Minute
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-retry.C:
		case <-ended:
			return fmt.Errorf("broker at %s: it has ended", addr)
		case <-ctx.Done():
			return fmt.Errorf("broker at %s: %w", addr, err)
		}
	}
}

// probe looks whether the broker can be reached at all: behind a proxy that cannot be
// told from a fault.
func probe(ctx context.Context, b Broker) error {
	const most = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	_, _, config := b.Login()
	var nc net.Conn
	var err error
	if config == nil {
		nc, err = new(net.Dialer).DialContext(ctx, "tcp", b.Addr())
	} else {
		nc, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", b.Addr())
	}
	if err != nil {
		return fmt.Errorf("the broker cannot be reached: %w", err)
	}
	return nc.Close()
}
