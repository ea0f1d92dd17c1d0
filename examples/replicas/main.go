// Command replicas is an idempotent subscriber: start it three times, with three
// names and one store, and every payment is booked by one of them, once, however
// often it is delivered.
//
//	replicas one   mqtt://localhost:1883 postgres://app@localhost/app &
//	replicas two   mqtt://localhost:1883 postgres://app@localhost/app &
//	replicas three mqtt://localhost:1883 postgres://app@localhost/app &
//	oncemq pub -t payments/7 -m '{"amount": 12}'
//
// On one machine sqlite:///tmp/payments.db does as well.
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

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 4 {
		log.Fatal("usage: replicas NAME BROKER STORE")
	}
	name := os.Args[1]
	book := func(_ context.Context, m *autopaho.Received) error {
		fmt.Println(name, "books", m.ID, string(m.Payload))
		return nil
	}
	if err := run(ctx, name, os.Args[2], os.Args[3], book, func() { fmt.Println("ready") }); err != nil {
		log.Fatal(err)
	}
}

// run books payments until the context ends.
//
// The mark that a payment was booked is stored after book has returned: a replica
// that dies in between has it booked again by another. Where book writes to the
// database that is the store, autopaho.InTx commits both together.
func run(ctx context.Context, name, broker, store string, book autopaho.Handler, ready func()) (err error) {
	shared, err := persist.Open(ctx, store, sqlite.Driver{}, postgres.Driver{}, redis.Driver{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shared.Close(context.Background())) }()
	client, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{broker},
		// The name of a replica's session at the broker: its own, and the same
		// after a restart, so that what it was sent and has not acknowledged
		// comes back to it.
		ClientID: "payments-" + name,
		Store:    shared, Relay: autopaho.RelayConfig{Off: true}, // it sends nothing
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
		Filters: []string{"payments/+"}, QoS: 1,
		// The group shares the work and the memory of what was processed.
		Group: "booking", Handler: book,
		Attempts: 3,
	}); err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	counts := client.Counters()
	log.Printf("%d received, %d booked, %d recognised as booked before", counts.Received, counts.Processed, counts.Duplicates)
	return nil
}
