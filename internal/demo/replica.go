package demo

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/effects"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// ReplicaEnv is the environment variable that makes a process a replica. Its
// value is for RunReplica.
const ReplicaEnv = "ONCEMQ_DEMO_REPLICA"

// The topics and the group of the demo.
const (
	topicPrefix = "demo/orders/"
	topicFilter = topicPrefix + "#"
	group       = "orders"
)

// replicaPrefix begins the client IDs of replicas. The client that publishes a
// replica's receipts has receiptSuffix in the end.
const (
	replicaPrefix = "replica-"
	receiptSuffix = "-pub"
)

// replicaConfig is what a replica is told, as JSON in ReplicaEnv.
type replicaConfig struct {
	Server         string `json:"server"`
	ClientID       string `json:"client_id"`
	Folder         string `json:"folder"`
	ReceiveMaximum int    `json:"receive_maximum"`
	Dedup          bool   `json:"dedup"`
}

// replicaReport is a line that a replica writes: how far it is since it was
// started.
type replicaReport struct {
	Ready       bool   `json:"ready"`
	Received    uint64 `json:"received"`
	Redelivered uint64 `json:"redelivered"`
	Processed   uint64 `json:"processed"`
	Duplicates  uint64 `json:"duplicates"`
}

// reportInterval is how often a replica reports: what a killed one did after
// its last report is not in the count of duplicates.
const reportInterval = 100 * time.Millisecond

// closeTimeout bounds how long a replica or the publisher takes to finish.
const closeTimeout = 5 * time.Second

// RunReplica is one subscriber replica of the demo: it subscribes, writes an
// effect for each message, and reports on stdout. value is what ReplicaEnv
// holds. It returns nil after stdin has ended, which it also does when the demo
// dies, or ctx has.
func RunReplica(ctx context.Context, value string, stdin io.Reader, stdout io.Writer) error {
	var cfg replicaConfig
	if err := json.Unmarshal([]byte(value), &cfg); err != nil {
		return fmt.Errorf("replica: %s cannot be read: %w", ReplicaEnv, err)
	}
	if err := cfg.run(ctx, stdin, stdout); err != nil {
		return fmt.Errorf("%s: %w", cfg.ClientID, err)
	}
	return nil
}

func (cfg *replicaConfig) run(ctx context.Context, stdin io.Reader, stdout io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Not joined: a read of stdin cannot be interrupted. It ends with the pipe,
	// and the process ends with this function.
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	client, subscription, end, err := cfg.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	out := bufio.NewWriter(stdout)
	encoder := json.NewEncoder(out)
	report := func(ready bool) error {
		c := client.Status(ctx).Counters
		if err := encoder.Encode(replicaReport{
			Ready: ready, Received: c.Received, Redelivered: c.Redelivered,
			Processed: c.Processed, Duplicates: c.Duplicates,
		}); err != nil {
			return err
		}
		return out.Flush()
	}
	if _, err := client.Subscribe(ctx, subscription); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		if err := report(true); err != nil {
			return fmt.Errorf("report: %w", err)
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return errors.Join(client.Close(ctx), report(true))
	}
}

// open makes the client and its subscription. With dedup the handler's row and
// the mark that the message was processed commit together; without, the handler
// writes its row, and nobody remembers.
func (cfg *replicaConfig) open(ctx context.Context) (
	_ *autopaho.Client, _ autopaho.SubscribeConfig, end func() error, err error,
) {
	var ends []func() error
	end = sync.OnceValue(func() error {
		var errs []error
		for i := len(ends) - 1; i >= 0; i-- {
			errs = append(errs, ends[i]())
		}
		return errors.Join(errs...)
	})
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	subscription := autopaho.SubscribeConfig{Filters: []string{topicFilter}, Group: group, Receipts: true}
	var store persist.Store
	if cfg.Dedup {
		s, err := sqlite.Open(ctx, replicasFile(cfg.Folder), sqlite.Options{})
		if err != nil {
			return nil, subscription, nil, err
		}
		store = s
		ends = append(ends, func() error { return s.Close(context.WithoutCancel(ctx)) })
		subscription.TxHandler = autopaho.InTx(func(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
			_, err := tx.ExecContext(ctx, effects.InsertSQLite, m.ID, cfg.ClientID)
			return err
		})
	} else {
		table, err := effects.OpenSQLite(ctx, replicasFile(cfg.Folder))
		if err != nil {
			return nil, subscription, nil, err
		}
		ends = append(ends, table.Close)
		subscription.Handler = func(ctx context.Context, m *autopaho.Received) error {
			return table.Add(ctx, m.ID, cfg.ClientID)
		}
	}
	client, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{cfg.Server}, ClientID: cfg.ClientID, ReceiveMaximum: cfg.ReceiveMaximum,
		Store: store, Relay: autopaho.RelayConfig{Off: true},
	})
	if err != nil {
		return nil, subscription, nil, err
	}
	ends = append(ends, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return client.Close(ctx)
	})
	return client, subscription, end, nil
}
