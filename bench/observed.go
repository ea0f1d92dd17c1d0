package main

import (
	"context"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/oncemq/oncemq/autopaho"
)

// unobserved is publishing as it is without metrics and traces.
const unobserved = "oncemq sqlite"

// observed are publishers with metrics that are read every second, and with traces
// of which some share is sampled.
func (b *bench) observed() []contender {
	return []contender{
		{unobserved, 100_000, b.publishOncemq("sqlite")},
		{"with metrics", 100_000, b.publishObserved(withMetrics)},
		{"with traces, none sampled", 100_000, b.publishObserved(withTraces(0))},
		{"with traces, 1 % sampled", 100_000, b.publishObserved(withTraces(0.01))},
		{"with metrics and 1 % of traces", 100_000, b.publishObserved(withMetrics, withTraces(0.01))},
	}
}

// observer adds to a configuration, until the function that it returns is called.
type observer func(*autopaho.Config) (stop func(context.Context) error)

func withMetrics(cfg *autopaho.Config) func(context.Context) error {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	cfg.MeterProvider = provider
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-tick.C:
			}
			if err := reader.Collect(context.Background(), new(metricdata.ResourceMetrics)); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func(ctx context.Context) error {
		cancel()
		if err := <-ended; err != nil {
			return err
		}
		return provider.Shutdown(ctx)
	}
}

func withTraces(share float64) observer {
	return func(cfg *autopaho.Config) func(context.Context) error {
		provider := sdktrace.NewTracerProvider(
			sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))), sdktrace.WithBatcher(tracetest.NewNoopExporter()))
		cfg.TracerProvider = provider
		return provider.Shutdown
	}
}

func (b *bench) publishObserved(with ...observer) func(context.Context, options, int) (time.Duration, error) {
	return func(ctx context.Context, o options, n int) (time.Duration, error) {
		p, err := b.stores.open(ctx, "sqlite")
		if err != nil {
			return 0, err
		}
		defer p.remove()
		cfg := autopaho.Config{Servers: []string{o.broker}, Store: p.store}
		for _, observe := range with {
			stop := observe(&cfg)
			defer stop(ctx)
		}
		return publishWith(ctx, cfg, o, n)
	}
}
