// Command ingest writes telemetry into a PostgreSQL table, each reading once,
// however often the broker delivers it and whatever dies: many readings and the
// marks that they were processed are committed in one transaction.
//
//	DATABASE_URL=postgres://… BROKER=mqtt://localhost:1883 ingest replica-1
//	oncemq pub -t sensors/kitchen/temperature -m 21.5
//
// Replicas with different names share the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	name := "ingest"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	if err := run(ctx, name, os.Getenv("DATABASE_URL"), os.Getenv("BROKER")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, name, database, broker string) (err error) {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS readings (topic text, value text, received_at timestamptz)"); err != nil {
		return err
	}
	store, err := postgres.New(ctx, pool, postgres.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.Background())) }()
	client, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{broker}, Store: store, ClientID: name, ReceiveMaximum: 2000,
	})
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, client.Close(end))
	}()
	if _, err := client.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"sensors/#"}, Group: "ingest", TxHandler: autopaho.BatchInTx(insert),
	}); err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}

// insert writes readings with COPY. It may run again after a failed commit:
// nothing of the failed one is left then.
func insert(ctx context.Context, tx pgx.Tx, readings []*autopaho.Received) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"readings"}, []string{"topic", "value", "received_at"},
		pgx.CopyFromSlice(len(readings), func(i int) ([]any, error) {
			return []any{readings[i].Topic, string(readings[i].Payload), readings[i].At}, nil
		}))
	return err
}
