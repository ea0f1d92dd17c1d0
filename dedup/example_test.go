package dedup_test

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// delivery is a message on its way through the consumer.
type delivery struct {
	dedup.Node
	granted chan dedup.Grant
	settled chan dedup.Outcome
}

func (d *delivery) Granted(g dedup.Grant)   { d.granted <- g }
func (d *delivery) Settled(o dedup.Outcome) { d.settled <- o }

// The broker delivers one message twice; it is processed once, and acknowledged
// twice.
func ExampleConsumer() {
	ctx := context.Background()
	store := memory.New(memory.Options{}) // or sqlite.Open
	consumer, err := dedup.New(dedup.Config{Store: store, Group: "billing"})
	if err != nil {
		fmt.Println(err)
		return
	}
	message := persist.Message{Topic: "orders", Payload: []byte("4711"), Properties: persist.Properties{
		User: []persist.UserProperty{{Name: "message-id", Value: uuid.Must(uuid.NewV7()).String()}},
	}}
	for range 2 {
		d := &delivery{granted: make(chan dedup.Grant, 1), settled: make(chan dedup.Outcome, 1)}
		key, _ := dedup.ByMessageID(&message)
		sent, _ := dedup.SentAt(&message)
		if err := consumer.Submit(d, key, sent); err != nil {
			fmt.Println(err)
			return
		}
		select {
		case <-d.granted:
			fmt.Printf("processing order %s\n", message.Payload)
			consumer.Complete(d, nil)
			fmt.Println("acknowledge:", <-d.settled)
		case outcome := <-d.settled:
			fmt.Println("acknowledge:", outcome)
		}
	}
	if err := consumer.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// processing order 4711
	// acknowledge: processed
	// acknowledge: duplicate
}

func ExampleParseKey() {
	keyOf, err := dedup.ParseKey("json:order.id")
	if err != nil {
		fmt.Println(err)
		return
	}
	key, ok := keyOf(&persist.Message{Payload: []byte(`{"order":{"id":4711},"lines":[]}`)})
	fmt.Println(key, ok)

	_, err = dedup.ParseKey("header:id")
	fmt.Println(err)
	// Output:
	// json:8:order.id:n:4711 true
	// dedup key "header:id": invalid argument: no such kind; it must be id, property:NAME, cloudevents, json:FIELD, correlation, content or none
}
