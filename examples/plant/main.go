// Command plant watches sensors, raises alerts and closes valves: three kinds of
// messages, each with a route and a policy of its own.
//
//	plant mqtt://localhost:1883 plant.db
//	oncemq pub -q 0 -t sensors/7 -m 93.5
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist/sqlite"
	"github.com/oncemq/oncemq/qos"
)

//go:embed policies.yaml
var policyFile []byte

// limit is the reading from which on a valve is closed.
const limit = 80.0

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: plant BROKER FILE")
	}
	valves := func(valve, command string) error {
		fmt.Println("valve", valve, command)
		return nil
	}
	if err := run(ctx, os.Args[1], os.Args[2], valves, func() { fmt.Println("ready") }); err != nil {
		log.Fatal(err)
	}
}

// plant is what the handlers share.
type plant struct {
	client *autopaho.Client
	// move moves a valve.
	move func(valve, command string) error
}

// run works until the context ends.
func run(ctx context.Context, broker, file string, move func(valve, command string) error, ready func()) (err error) {
	policies, err := qos.ParsePolicies("policies.yaml", policyFile)
	if err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, file, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.Background())) }()
	client, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{broker}, ClientID: "plant", Store: store, Policies: policies,
	})
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, client.Close(end))
	}()
	p := &plant{client, move}
	// Those who share the group share the work and what was processed.
	router := autopaho.NewRouter(autopaho.SubscribeConfig{Group: "plant"})
	router.Use(logErrors)
	router.Handle("sensors/+", p.sensor, autopaho.WithPolicy(policies.For("sensors/1")), autopaho.WithWorkers(16))
	router.Handle("alerts/+", p.alert, autopaho.WithPolicy(policies.For("alerts/1")))
	router.Handle("actuators/+/+", p.command, autopaho.WithPolicy(policies.For("actuators/valves/1")), autopaho.WithWorkers(2))
	if _, err := router.Start(ctx, client); err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}

// sensor raises an alert for a reading over the limit.
func (p *plant) sensor(ctx context.Context, m *autopaho.Received) error {
	value, err := strconv.ParseFloat(string(m.Payload), 64)
	if err != nil {
		return autopaho.Permanent(err) // no second attempt would mend it
	}
	if value < limit {
		return nil
	}
	return p.enqueue(ctx, m, "alerts/"+last(m.Topic), fmt.Sprintf("%g is over %g", value, limit))
}

// alert closes the valve that belongs to the sensor.
func (p *plant) alert(ctx context.Context, m *autopaho.Received) error {
	return p.enqueue(ctx, m, "actuators/valves/"+last(m.Topic), "close")
}

// command moves a valve.
func (p *plant) command(_ context.Context, m *autopaho.Received) error {
	return p.move(last(m.Topic), string(m.Payload))
}

// enqueue stores a message that follows from another. Its message ID is made of that
// one's: a handler that runs again, after a crash, enqueues nothing new, and whoever
// gets both recognises the second.
func (p *plant) enqueue(ctx context.Context, cause *autopaho.Received, topic, payload string) error {
	m := autopaho.Message{Topic: topic, Payload: []byte(payload)}
	if cause.ID != "" {
		m.ID = cause.ID + "/" + topic
	}
	_, err := p.client.Enqueue(ctx, m)
	return err
}

// last is the last level of a topic.
func last(topic string) string { return topic[strings.LastIndexByte(topic, '/')+1:] }

// logErrors is middleware: it is around every handler.
func logErrors(next autopaho.Handler) autopaho.Handler {
	return func(ctx context.Context, m *autopaho.Received) error {
		err := next(ctx, m)
		if err != nil {
			log.Printf("%s, attempt %d: %s", m.Topic, m.Attempt, err)
		}
		return err
	}
}
