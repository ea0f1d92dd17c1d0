package drill_test

import (
	"context"
	"fmt"
	"os"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/fault/drill"
)

// A scenario on a store in a file, with a broker within the process; Store and Remote
// take yours.
func ExampleRun() {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "drill-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(folder) }()
	broker, err := drill.Embedded(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = broker.Close() }()
	scenario, err := fault.Find("lost-puback")
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := drill.Run(ctx, drill.Options{Scenario: scenario, Broker: broker, Folder: folder, Scale: 0.1})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.State, r.Lost, r.Doubled)
	// Output: settled 0 0
}
