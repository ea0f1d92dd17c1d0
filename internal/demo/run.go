package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/effects"
	"github.com/oncemq/oncemq/internal/mochi"
)

const (
	// abortTimeout bounds how long anybody gets to finish if the demo is not
	// carried to its end.
	abortTimeout = 500 * time.Millisecond
	// progressInterval is how often Observe gets the counts.
	progressInterval = 100 * time.Millisecond
)

// replicaNames are the replicas of the group; the first one is killed.
var replicaNames = [...]string{replicaPrefix + "1", replicaPrefix + "2"} //nolint:gochecknoglobals // a constant

// files of the demo in its folder.
func outboxFile(folder string) string   { return filepath.Join(folder, "outbox.db") }
func replicasFile(folder string) string { return filepath.Join(folder, "replicas.db") }

// demo is one run.
type demo struct {
	opts      Options
	script    script
	began     time.Time
	broker    *mochi.Broker
	publisher *publisher
	replicas  *replicas
	effects   *effects.SQLite
	result    Result

	observing sync.Mutex  // held while Observe is called
	up        atomic.Bool // the broker is
}

// Run plays the demo and counts. The result is nil only if there is an error: of
// the options (wraps ErrOptions), the context's, or of something that could not
// be set up or broke. That messages were lost or doubled is no error: see
// Result.OK.
//
// When it returns, the replicas have ended and nothing of the demo is left but
// the files in the folder.
func Run(ctx context.Context, opts Options) (*Result, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	d := &demo{opts: opts, began: time.Now(), script: newScript(opts.Messages, opts.Kills, opts.Seed)}
	d.result = Result{
		Messages: opts.Messages, Seed: opts.Seed, Sabotage: opts.Sabotage, HeldAtKills: []int{},
	}
	limited, cancel := context.WithTimeout(ctx, opts.Limit)
	defer cancel()
	err := d.open(limited)
	if err == nil {
		err = d.play(limited)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = fmt.Errorf("demo: %w", context.Cause(ctx)) // whatever it has cut short
	case limited.Err() != nil:
		d.result.TimedOut = true
		err = nil
	}
	err = errors.Join(err, d.close(err == nil, err == nil && !d.result.TimedOut))
	if err != nil {
		return nil, err
	}
	d.result.Seconds = math.Round(time.Since(d.began).Seconds()*100) / 100
	return &d.result, nil
}

// open starts what is needed, from the inside out: broker, table, replicas,
// publisher.
func (d *demo) open(ctx context.Context) (err error) {
	if d.broker, err = newBroker(ctx, d.script.quota); err != nil {
		return err
	}
	d.up.Store(true)
	if d.effects, err = effects.OpenSQLite(ctx, replicasFile(d.opts.Folder)); err != nil {
		return err
	}
	server := d.broker.URL()
	d.replicas = newReplicas(d.opts.Replica, replicaConfig{
		Server: server, Folder: d.opts.Folder, ReceiveMaximum: d.script.quota, Dedup: !d.opts.Sabotage.Dedup,
	})
	var started []*process
	for _, name := range replicaNames {
		p, err := d.replicas.start(ctx, name)
		if err != nil {
			return err
		}
		started = append(started, p)
	}
	for _, p := range started {
		if err := p.subscribed(ctx); err != nil {
			return err
		}
	}
	d.publisher, err = newPublisher(ctx, server, &d.opts)
	return err
}

// newBroker starts the broker. Each replica gets at most quota messages that it has
// not acknowledged; the gate is for what replicas send.
func newBroker(ctx context.Context, quota int) (*mochi.Broker, error) {
	return mochi.New(ctx, mochi.Options{
		Quota:     quota,
		MessageID: func(property func(string) string) string { return property(autopaho.PropertyMessageID) },
		Gated:     func(clientID string) bool { return strings.HasPrefix(clientID, replicaPrefix) },
	})
}

// observe reports the counts until the returned function is called.
func (d *demo) observe(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(progressInterval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				d.tell(ctx, Event{Kind: EventProgress})
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// tell passes an event on with the counts.
func (d *demo) tell(ctx context.Context, e Event) {
	c := Counts{Messages: d.opts.Messages, Enqueued: d.publisher.accepted(), Connected: d.up.Load()}
	c.Delivered, c.Acknowledged = d.publisher.counts()
	c.Redelivered = d.broker.Redelivered()
	c.Duplicates = int(d.replicas.totals().Duplicates)
	c.Effects, _ = d.effects.Count(ctx) // zero while it cannot be read: it is for show
	e.Counts, e.Elapsed = c, time.Since(d.began)
	d.observing.Lock()
	defer d.observing.Unlock()
	d.opts.Observe(e)
}

// close ends everything, from the outside in: at once, unless everything has
// come to rest and there is time to finish. It counts before the table is closed
// if that is wanted.
func (d *demo) close(count, finish bool) error {
	var errs []error
	timeout := closeTimeout
	if !finish {
		timeout = abortTimeout
	}
	if d.replicas != nil {
		if !finish {
			d.replicas.abort()
		}
		// They finish what they have begun, so that it is in the table.
		errs = append(errs, d.replicas.stop(timeout))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if d.publisher != nil {
		if count {
			errs = append(errs, d.count(ctx))
		}
		errs = append(errs, d.publisher.close(ctx))
	}
	if d.effects != nil {
		errs = append(errs, d.effects.Close())
	}
	if d.broker != nil {
		d.broker.OpenGate()
		errs = append(errs, d.broker.Kill())
	}
	return errors.Join(errs...)
}

// count fills in the result.
func (d *demo) count(ctx context.Context) error {
	r := &d.result
	var err error
	if r.Open, err = d.publisher.open(ctx); err != nil {
		return err
	}
	ids, err := d.effects.IDs(ctx)
	if err != nil {
		return err
	}
	r.Enqueued = len(d.publisher.ids)
	r.Delivered, r.Acknowledged = d.publisher.counts()
	r.Redelivered = d.broker.Redelivered()
	r.DuplicatesSuppressed = int(d.replicas.totals().Duplicates)
	t := effects.Judge(d.publisher.ids, ids)
	r.Effects, r.Lost, r.Doubled, r.Unknown = t.Effects, t.Lost, t.Doubled, t.Unknown
	r.OK = r.Lost == 0 && r.Doubled == 0 && r.Unknown == 0 && r.Open == 0 && !r.TimedOut &&
		r.Enqueued == r.Messages
	return nil
}
