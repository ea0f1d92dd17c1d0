package dedup

import (
	"context"
	"database/sql"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist/memory"
)

// inFlight is how many deliveries are open in the benchmarks, as a Receive
// Maximum bounds it.
const inFlight = 1000

// benched is a delivery that completes itself, and comes back when it is settled.
type benched struct {
	Node
	consumer *Consumer
	free     chan *benched
}

func (d *benched) Granted(Grant)   { d.consumer.Complete(d, nil) }
func (d *benched) Settled(Outcome) { d.free <- d }

func benchmarkConsumer(b *testing.B, store Store, keys func(i int) string) {
	b.Helper()
	benchmarkWindow(b, store, inFlight, keys)
}

func benchmarkWindow(b *testing.B, store Store, inFlight int, keys func(i int) string) {
	b.Helper()
	b.ReportAllocs()
	c, err := New(Config{Store: store, Group: "bench"})
	require.NoError(b, err)
	free := make(chan *benched, inFlight)
	for range inFlight {
		free <- &benched{consumer: c, free: free}
	}
	names := make([]string, b.N) // a key is made by the KeyFunc, not here
	for i := range names {
		names[i] = keys(i)
	}
	b.ResetTimer()
	for _, name := range names {
		if err := c.Submit(<-free, name, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
	for range inFlight {
		<-free
	}
	b.StopTimer()
	require.NoError(b, c.Close(context.Background()))
	require.Zero(b, c.Stats().Open)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func unique(i int) string { return "0190f2b7-9a4e-7cc3-98c4-" + strconv.Itoa(1e12+i) }

func BenchmarkConsumer(b *testing.B) {
	b.Run("nothing", func(b *testing.B) { benchmarkConsumer(b, nothing{}, unique) })
	b.Run("memory", func(b *testing.B) { benchmarkConsumer(b, memory.New(memory.Options{}), unique) })
	b.Run("sqlite", func(b *testing.B) {
		store, _ := openSQLite(b)
		benchmarkConsumer(b, store, unique)
	})
	b.Run("sqlite/window=20", func(b *testing.B) {
		store, _ := openSQLite(b)
		benchmarkWindow(b, store, 20, unique)
	})
	b.Run("duplicates", func(b *testing.B) {
		benchmarkConsumer(b, memory.New(memory.Options{}), func(i int) string { return unique(i % 100) })
	})
	b.Run("unkeyed", func(b *testing.B) {
		benchmarkConsumer(b, memory.New(memory.Options{}), func(int) string { return "" })
	})
}

// benchedTx writes one row in the transaction of its mark.
type benchedTx struct {
	Node
	free chan *benchedTx
}

func (d *benchedTx) Process(ctx context.Context, tx *sql.Tx, _ Grant) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO effects VALUES ('bench', 1)")
	return err
}

func (d *benchedTx) Failed(err error, _ int) Verdict { panic(err) }
func (d *benchedTx) Settled(Outcome)                 { d.free <- d }

func BenchmarkTxConsumer(b *testing.B) {
	for _, window := range []int{20, 1000} {
		b.Run("sqlite/window="+strconv.Itoa(window), func(b *testing.B) {
			b.ReportAllocs()
			store, _ := openSQLite(b)
			c, err := NewTx(TxConfig[*sql.Tx]{Store: store, Group: "bench"})
			require.NoError(b, err)
			free := make(chan *benchedTx, window)
			for range window {
				free <- &benchedTx{free: free}
			}
			b.ResetTimer()
			for i := range b.N {
				if err := c.Submit(<-free, unique(i), time.Time{}); err != nil {
					b.Fatal(err)
				}
			}
			for range window {
				<-free
			}
			b.StopTimer()
			require.NoError(b, c.Close(context.Background()))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

func BenchmarkKey(b *testing.B) {
	m := user("message-id", "0190f2b7-9a4e-7cc3-98c4-dc0c0c07398f", "source", "/orders", "id", "4711")
	m.Payload = []byte(`{"pad":"` + string(make([]byte, 200)) + `","n":[1,2,3],"order":{"id":"4711"}}`)
	for _, name := range []string{"id", "property:id", "cloudevents", "json:order.id", "content"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			keyOf, err := ParseKey(name)
			require.NoError(b, err)
			for b.Loop() {
				keyOf(&m)
			}
		})
	}
}
