package load_test

import (
	"context"
	"fmt"

	"github.com/oncemq/oncemq/load"
	"github.com/oncemq/oncemq/persist/memory"
)

// How fast a store is, without a broker.
func ExampleRunStore() {
	store := memory.New(memory.Options{})
	defer func() { _ = store.Close(context.Background()) }()
	r, err := load.RunStore(context.Background(), load.Config{Store: store, Count: 1000})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, phase := range r.Phases {
		fmt.Println(phase.Name, phase.Messages) // and phase.Rate, phase.Latency
	}
	// Output:
	// enqueue 1000
	// drain 1000
	// claim 1000
}
