package fault_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/oncemq/oncemq/fault"
)

// How the code under test takes a network that fails.
func Example() {
	var t *testing.T // of the test
	p := fault.StartMQTT(t, "localhost:1883")
	// connect(p.URL())

	p.SetTrap(fault.Trap{Direction: fault.ToClient, Type: fault.PUBACK, Cut: true})
	// publish(): its PUBACK is lost, and the connection with it

	s, err := fault.Find("intermittent")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Play(t.Context(), s, fault.PlayOptions{Scale: 0.1}); err != nil {
		t.Fatal(err)
	}
	// everything has arrived
}

// A proxy of any protocol, outside of tests.
func ExampleNew() {
	p, err := fault.New("localhost:5432")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	p.Latency(fault.ToClient, 50*time.Millisecond)
	p.CutAfter(fault.ToServer, 100, fault.RST) // in the middle of a statement
}

// All scenarios, one after another.
func ExamplePlay() {
	p, err := fault.NewMQTT("localhost:1883")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	for _, s := range fault.Scenarios() {
		if s.Restarts {
			continue // needs PlayOptions.Broker
		}
		if err := fault.Play(context.Background(), s, fault.PlayOptions{Seed: 1}, p); err != nil {
			fmt.Println(s.Name, err)
		}
	}
}
