package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/loopback"
)

// ErrNoMosquitto tells that there is no mosquitto on this machine.
var ErrNoMosquitto = errors.New("there is no mosquitto in PATH or /usr/sbin")

// Mosquitto starts a mosquitto of its own on a loopback port. It forgets everything
// when it is killed, and keeps as many messages as come until then.
func Mosquitto(ctx context.Context, folder string) (Broker, error) {
	program, err := findMosquitto()
	if err != nil {
		return nil, err
	}
	b := &mosquitto{program: program, conf: filepath.Join(folder, "mosquitto.conf")}
	// Another process may take the port between the look and the start.
	const attempts = 5
	for range attempts {
		port, err := loopback.FreePort(ctx)
		if err != nil {
			return nil, err
		}
		b.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if err := os.WriteFile(b.conf, []byte(config(port)), 0o600); err != nil {
			return nil, err
		}
		if err = b.Start(ctx); err == nil {
			return b, nil
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, fmt.Errorf("mosquitto does not start: %s", b.said)
}

// findMosquitto is the path of mosquitto, which lives where a user's PATH often does
// not reach.
func findMosquitto() (string, error) {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoMosquitto
}

func config(port int) string {
	lines := []string{
		fmt.Sprintf("listener %d 127.0.0.1", port),
		"allow_anonymous true",
		"persistence false",
		"max_queued_messages 0",
		"log_dest stderr",
		"log_type error",
	}
	// Started by root it would become the user mosquitto.
	if u, err := user.Current(); err == nil {
		lines = append(lines, "user "+u.Username)
	}
	return strings.Join(lines, "\n") + "\n"
}

type mosquitto struct {
	program, conf, addr string

	cmd  *exec.Cmd     // nil while it is down
	done chan struct{} // closed when it has ended
	said string        // by the last one that has ended
}

func (b *mosquitto) String() string { return "mosquitto" }
func (b *mosquitto) Restarts() bool { return true }
func (b *mosquitto) Close() error   { return b.Kill(context.Background()) }

func (b *mosquitto) Login(*autopaho.Config) {}

func (b *mosquitto) Dial(ctx context.Context) (net.Conn, error) { return dial(ctx, b.addr) }

func (b *mosquitto) Kill(context.Context) error {
	if b.cmd == nil {
		return nil
	}
	_ = b.cmd.Process.Kill() // it fails only for one that has ended
	<-b.done
	b.cmd = nil
	return nil
}

func (b *mosquitto) Start(ctx context.Context) error {
	// Kill ends it, not a context.
	cmd := exec.Command(b.program, "-c", b.conf) //nolint:gosec,noctx // the program is the one that was looked up
	var stderr strings.Builder
	cmd.Stderr = &stderr
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it said tells why
		b.said = lastLine([]byte(stderr.String()))
		close(done)
	}()
	b.cmd, b.done = cmd, done
	if err := accepts(ctx, b, done); err != nil {
		return errors.Join(err, b.Kill(ctx))
	}
	return nil
}
