package autopaho_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// A row of the application and the message that tells of it exist both, or
// neither.
func ExampleClient_EnqueueTx() {
	accept := func(ctx context.Context, client *autopaho.Client, store *sqlite.Store, db *sql.DB, order string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // nothing to do after Commit
		if _, err := tx.ExecContext(ctx, "INSERT INTO orders (id) VALUES (?)", order); err != nil {
			return err
		}
		if _, err := client.EnqueueTx(ctx, store.WithTx(tx), autopaho.Message{Topic: "orders", Payload: []byte(order)}); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		client.Wake() // or the relay finds it at its next poll
		return nil
	}
	_ = accept
}

// What the handler writes commits together with the mark that the message was
// processed.
func ExampleInTx() {
	cfg := autopaho.SubscribeConfig{
		Filters: []string{"meter/+"}, Group: "billing",
		TxHandler: autopaho.InTx(func(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO readings (topic, value) VALUES (?, ?)", m.Topic, m.Payload)
			return err
		}),
	}
	fmt.Println(cfg.Group)
	// Output: billing
}

// Many messages and their marks in one transaction.
func ExampleBatchInTx() {
	cfg := autopaho.SubscribeConfig{
		Filters: []string{"sensors/#"}, Group: "ingest", MaxBatch: 1000,
		TxHandler: autopaho.BatchInTx(func(ctx context.Context, tx *sql.Tx, msgs []*autopaho.Received) error {
			insert, err := tx.PrepareContext(ctx, "INSERT INTO readings (topic, value) VALUES (?, ?)")
			if err != nil {
				return err
			}
			defer func() { _ = insert.Close() }()
			for _, m := range msgs {
				if _, err := insert.ExecContext(ctx, m.Topic, m.Payload); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	fmt.Println(cfg.Group)
	// Output: ingest
}

// A request that waits five seconds for its response.
func ExampleClient_Request() {
	add := func(ctx context.Context, client *autopaho.Client) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		sum, err := client.Request(ctx, autopaho.Message{Topic: "rpc/add", QoS: 1, Payload: []byte("[1,2]")})
		if errors.Is(err, autopaho.ErrNoSubscribers) {
			return "", errors.New("nobody adds here")
		}
		if err != nil {
			return "", err
		}
		return string(sum.Payload), nil
	}
	_ = add
}
