package comparison_test

import (
	"context"
	"fmt"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/qos"
	"github.com/oncemq/oncemq/qos/comparison"
)

// The levels over a link that is cut, with a broker of the package's own; name yours in
// Options.Client.
func ExampleRun() {
	err := comparison.Run(context.Background(), comparison.Options{
		NewStore: func() persist.Store { return memory.New(memory.Options{}) },
		Links:    []string{comparison.Faulty}, Messages: 40, Rate: 2000, CutEvery: 20,
	}, func(r *comparison.Result) error {
		if r.Level == qos.AtMostOnce {
			fmt.Println("QoS 0 lost some:", r.Lost > 0)
		} else {
			fmt.Printf("QoS %d lost %d\n", r.Level, r.Lost)
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// QoS 0 lost some: true
	// QoS 1 lost 0
	// QoS 2 lost 0
}
