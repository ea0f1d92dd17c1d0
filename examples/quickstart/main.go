// Command quickstart is the example of the README: it enqueues a message and
// waits until the broker has it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist/sqlite"
)

func main() {
	if err := run(context.Background(), "mqtt://localhost:1883", "outbox.db"); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, broker, file string) (err error) {
	store, err := sqlite.Open(ctx, file, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(ctx)) }()
	client, err := autopaho.New(ctx, autopaho.Config{Servers: []string{broker}, Store: store})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close(ctx)) }()
	accepted, err := client.Enqueue(ctx, autopaho.Message{Topic: "meter/7", Payload: []byte("42")})
	if err != nil {
		return err
	}
	results, err := accepted.Wait(ctx) // not needed for delivery: it survives a crash right here
	if err != nil {
		return err
	}
	fmt.Println(results[0].ID, results[0].State)
	return results[0].Err()
}
