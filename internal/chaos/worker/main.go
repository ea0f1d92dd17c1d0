// Command worker is a process of the proof: a producer, a relay or a subscriber.
// What the observer has to know it writes to file descriptor 3, a line in one
// call, so that all of it or nothing is there when the process is killed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// settings are what the observer wants, as JSON in the variable CHAOS.
type settings struct {
	Role     string // producer, relay or subscriber
	ID       string
	Store    string
	Broker   string
	Producer int // of a producer
	// Of a subscriber.
	Mode      string // tx, batch or leased
	Unshared  bool
	QoS       byte
	Accounts  int
	HandlerMS int // how long a handler takes before its effect
	Receipts  bool

	LeaseMS          int
	ReceiptTimeoutMS int
}

func (s *settings) lease() time.Duration { return time.Duration(s.LeaseMS) * time.Millisecond }

// observer is the other end of file descriptor 3.
type observer struct {
	mu sync.Mutex
	w  io.Writer
}

// tell writes one line.
func (o *observer) tell(words ...any) {
	line := strings.TrimSpace(fmt.Sprintln(words...)) + "\n"
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, err := io.WriteString(o.w, line); err != nil {
		panic(err) // nobody observes any more
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // it is a main function
	}
}

func run(ctx context.Context) error {
	if err := failpoint.Load(); err != nil {
		return err
	}
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv("CHAOS")), &s); err != nil {
		return fmt.Errorf("CHAOS: %w", err)
	}
	o := &observer{w: os.NewFile(3, "observer")}
	store, err := open(ctx, s.Store)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := store.Close(end); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	cfg := autopaho.Config{
		Servers: []string{s.Broker}, ClientID: s.ID, Store: store,
		KeepAlive: 2 * time.Second, ConnectTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second,
		PacketTimeout: 3 * time.Second, AckTimeout: 4 * time.Second, ReceiveMaximum: 100,
		Relay:  autopaho.RelayConfig{Off: s.Role != "relay", Lease: s.lease(), Poll: 200 * time.Millisecond},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	cfg.Policies.Default.ReceiptTimeout = time.Duration(s.ReceiptTimeoutMS) * time.Millisecond
	switch s.Role {
	case "producer":
		return produce(ctx, o, &s, cfg)
	case "relay":
		return serve(ctx, o, cfg, func(*autopaho.Client) error { return nil })
	case "subscriber":
		if s.Mode == "leased" {
			cfg.Store = &recorded{Store: store, o: o}
		}
		return serve(ctx, o, cfg, func(c *autopaho.Client) error { return subscribe(ctx, c, o, &s) })
	}
	return fmt.Errorf("role %q is unknown", s.Role)
}

// serve runs a client until it is told to end, or will not connect any more.
func serve(ctx context.Context, o *observer, cfg autopaho.Config, begin func(*autopaho.Client) error) error {
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return err
	}
	err = begin(client)
	if err == nil {
		o.tell("ready")
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for err == nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
				err = client.Err()
			}
		}
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, client.Close(end))
}

// open opens the store, and tries again while its server is away.
func open(ctx context.Context, url string) (persist.Store, error) {
	for {
		store, err := persist.Open(ctx, url, sqlite.Driver{}, postgres.Driver{}, redis.Driver{})
		if err == nil {
			return store, nil
		}
		fmt.Fprintln(os.Stderr, err)
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
