// Command worker is a subscriber process of the fleet's test: it records an
// effect for every message of its group, until it is told to end, or killed.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := run(ctx)
	if errors.Is(err, errNotReady) && ctx.Err() != nil {
		return // told to end while the store or the broker was away
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // it is a main function
	}
}

// errNotReady is of a worker that has not subscribed.
var errNotReady = errors.New("not ready")

func run(ctx context.Context) error {
	store, err := open(ctx, os.Getenv("FLEET_STORE"))
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	window, err := strconv.Atoi(os.Getenv("FLEET_RECEIVE_MAXIMUM"))
	if err != nil {
		return err
	}
	client, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{os.Getenv("FLEET_BROKER")}, ClientID: os.Getenv("FLEET_ID"), Store: store,
		ReceiveMaximum: window, Relay: autopaho.RelayConfig{Off: true},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	cfg := autopaho.SubscribeConfig{Filters: []string{"fleet/#"}, Group: "fleet", Lease: 2 * time.Second}
	if err := handle(&cfg, os.Getenv("FLEET_EFFECTS")); err != nil {
		return err
	}
	_, subscribed := client.Subscribe(ctx, cfg)
	if subscribed == nil {
		fmt.Println("ready")
		<-ctx.Done()
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Handlers may run already, whether the broker has agreed or not.
	if err := client.Close(end); err != nil {
		return err
	}
	if err := store.Close(end); err != nil {
		return err
	}
	if subscribed != nil {
		return fmt.Errorf("%w: %w", errNotReady, subscribed)
	}
	return nil
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

// handle sets the handler: with a file, the effects are its lines; without, they
// are rows of a table in the store's database, written with the mark.
func handle(cfg *autopaho.SubscribeConfig, effects string) error {
	const insert = "INSERT INTO effects (id, key, seq) VALUES ($1, $2, $3)"
	switch scheme, _, _ := strings.Cut(os.Getenv("FLEET_STORE"), ":"); {
	case effects != "":
		f, err := os.OpenFile(effects, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the test names it
		if err != nil {
			return err
		}
		cfg.Handler = func(_ context.Context, m *autopaho.Received) error {
			_, err := fmt.Fprintf(f, "%s %s %s\n", m.ID, m.Topic, m.Payload) // one write: survives kill -9 whole
			return err
		}
	case scheme == "sqlite":
		cfg.TxHandler = autopaho.InTx(func(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
			_, err := tx.ExecContext(ctx, insert, m.ID, m.Topic, string(m.Payload))
			return err
		})
	default:
		cfg.TxHandler = autopaho.InTx(func(ctx context.Context, tx pgx.Tx, m *autopaho.Received) error {
			_, err := tx.Exec(ctx, insert, m.ID, m.Topic, string(m.Payload))
			return err
		})
	}
	return nil
}
