package session

import (
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/persist"
)

// countingSource hands out n messages and counts their completions.
type countingSource struct {
	msgs  []Outgoing
	given int
	ended atomic.Int64
	all   chan struct{}
}

func (s *countingSource) Take(dst []*Outgoing, limit int) []*Outgoing {
	for limit > 0 && s.given < len(s.msgs) {
		dst = append(dst, &s.msgs[s.given])
		s.given++
		limit--
	}
	return dst
}

func (s *countingSource) completed(done []Completion) {
	if s.ended.Add(int64(len(done))) == int64(len(s.msgs)) {
		close(s.all)
	}
}

// BenchmarkPublish measures the engine against the broker of ONCEMQ_BENCH_BROKER.
func BenchmarkPublish(b *testing.B) {
	broker := os.Getenv("ONCEMQ_BENCH_BROKER")
	if broker == "" {
		b.Skip("set ONCEMQ_BENCH_BROKER to a broker's URL")
	}
	u, err := url.Parse(broker)
	if err != nil {
		b.Fatal(err)
	}
	for _, level := range []byte{0, 1, 2} {
		b.Run("qos"+strconv.Itoa(int(level)), func(b *testing.B) {
			b.ReportAllocs()
			m := &persist.Message{
				ID: uuid.NewString(), Topic: "bench/a", QoS: level, Payload: make([]byte, 256),
			}
			src := &countingSource{msgs: make([]Outgoing, b.N), all: make(chan struct{})}
			for i := range src.msgs {
				src.msgs[i].Message = m
			}
			l, err := Start(Config{
				Servers: []*url.URL{u}, ClientID: "bench-" + uuid.NewString(), KeepAlive: 15 * time.Second,
				CleanStart: true, ConnectTimeout: 5 * time.Second, PacketTimeout: 5 * time.Second,
				AckTimeout: 30 * time.Second, Logger: slog.New(slog.DiscardHandler),
				Engine: EngineConfig{
					Window: 4096, WindowBytes: 8 << 20, ReceiveMaximum: 100, MaximumPacketSize: 1 << 20,
					WriteTimeout: 10 * time.Second, Source: src, Completed: src.completed,
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			<-src.all
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			_ = l.Close(b.Context())
		})
	}
}
