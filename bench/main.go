package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

type options struct {
	broker   string
	messages int
	rounds   int
	size     int
	qos      int
	window   int
	only     string
	metrics  bool
	plain    bool
	postgres string
	redis    string
	pprof    string
	allocs   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("name a benchmark: publish, consume, enqueue, backlog, outbox, ingest, claims, size, measuring")
	}
	var o options
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.StringVar(&o.broker, "broker", "", "broker URL; mosquitto is started if it is empty")
	fs.IntVar(&o.messages, "n", 0, "messages a round (0: chosen by contender)")
	fs.IntVar(&o.rounds, "rounds", 5, "rounds")
	fs.IntVar(&o.size, "size", 256, "payload bytes")
	fs.IntVar(&o.qos, "qos", 1, "QoS level")
	fs.IntVar(&o.window, "window", 0, "Receive Maximum: 0 for unlimited, 20 is mosquitto's default")
	fs.StringVar(&o.only, "only", "", "run the contenders whose names contain this, and the one that all are compared to")
	fs.BoolVar(&o.metrics, "metrics", false, "publish: compare oncemq with and without metrics and traces")
	fs.BoolVar(&o.plain, "plain", false, "measuring: publish without a store")
	fs.StringVar(&o.pprof, "cpuprofile", "", "write a CPU profile")
	fs.StringVar(&o.allocs, "allocprofile", "", "write a profile of all allocations, which slows everything down")
	fs.StringVar(&o.postgres, "postgres", "", "PostgreSQL URL; a server is started if it is empty and one is needed")
	fs.StringVar(&o.redis, "redis", "", "Redis URL; a server is started if it is empty and one is needed. Its database is emptied")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	b := &bench{&stores{postgres: o.postgres, redis: o.redis}}
	defer b.stores.stop()
	if o.broker == "" {
		m, err := startMosquitto(o.window)
		if err != nil {
			return err
		}
		defer m.stop()
		o.broker = m.url
	}
	stop, err := profile(o.pprof, o.allocs)
	if err != nil {
		return err
	}
	defer stop()
	switch args[0] {
	case "publish":
		if o.metrics {
			return compare(ctx, o, unobserved, b.observed())
		}
		base := "autopaho memory queue"
		if o.qos == 2 { // the queues are left out
			base = asyncPeer
		}
		return compare(ctx, o, base, b.publishers(o))
	case "consume":
		return compare(ctx, o, plainConsumer, b.consumers())
	case "enqueue":
		return compare(ctx, o, "sqlite: 1 goroutine, one each", b.enqueuers())
	case "backlog":
		return backlog(ctx, o)
	case "outbox":
		return compare(ctx, o, "river no-op jobs", b.drains())
	case "ingest":
		return compare(ctx, o, plainConsumer, b.ingesters())
	case "measuring":
		return compare(ctx, o, unmeasured, b.measured(!o.plain))
	case "size":
		return b.size(ctx, o)
	case "claims":
		return b.claims(ctx, o, fs.Args())
	case "drain":
		return drainChild(ctx, o, fs.Arg(0))
	}
	return fmt.Errorf("no benchmark %q", args[0])
}

// bench is what the benchmarks share.
type bench struct{ stores *stores }

// contender does n messages and tells how long that took.
type contender struct {
	name     string
	messages int
	run      func(ctx context.Context, o options, n int) (time.Duration, error)
}

// compare runs the contenders in turn and prints medians, and ratios to the one
// called base, round by round.
func compare(ctx context.Context, o options, base string, cs []contender) error {
	rates := make([][]float64, len(cs))
	allocs := make([][]float64, len(cs))
	cpus := make([][]float64, len(cs))
	for round := range o.rounds {
		for i, c := range cs {
			if o.only != "" && !strings.Contains(c.name, o.only) && c.name != base {
				continue
			}
			n := c.messages
			if o.messages > 0 {
				n = min(o.messages, c.messages)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cpu := cpuTime()
			took, err := c.run(ctx, o, n)
			cpu = cpuTime() - cpu
			runtime.ReadMemStats(&after)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			rate := float64(n) / took.Seconds()
			rates[i] = append(rates[i], rate)
			allocs[i] = append(allocs[i], float64(after.Mallocs-before.Mallocs)/float64(n))
			cpus[i] = append(cpus[i], float64(cpu.Nanoseconds())/1000/float64(n))
			fmt.Fprintf(os.Stderr, "round %d  %-28s %9.0f msg/s  (%d messages)\n", round+1, c.name, rate, n)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "contender\tmedian msg/s\tmin\tmax\tallocations/msg\tµs of CPU/msg\ttimes %s (median of pairs)\n", base)
	peer := slices.IndexFunc(cs, func(c contender) bool { return c.name == base })
	for i, c := range cs {
		if len(rates[i]) == 0 {
			continue
		}
		var ratios []float64
		for r := range rates[i] {
			if peer >= 0 && len(rates[peer]) > r {
				ratios = append(ratios, rates[i][r]/rates[peer][r])
			}
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.2f\t%.2f ×\n", c.name, median(rates[i]),
			slices.Min(rates[i]), slices.Max(rates[i]), median(allocs[i]), median(cpus[i]), median(ratios))
	}
	return w.Flush()
}

// cpuTime is what this process has had of the processors; servers are not in it.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it does not fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}
