package comparison

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/qos"
)

// closeTimeout bounds how long a client gets to end.
const closeTimeout = 2 * time.Second

// run is one comparison.
type run struct {
	opts   Options
	name   string // differs between runs
	server *url.URL
	own    *ownBroker
	client autopaho.Config // what all clients have in common; Servers is the broker
}

func begin(o Options) (*run, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &run{opts: o.withDefaults(), name: uuid.NewString()[:8], client: o.Client}
	if len(r.client.Servers) == 0 {
		own, err := startBroker()
		if err != nil {
			return nil, fmt.Errorf("start a broker: %w", err)
		}
		r.own, r.client.Servers = own, []string{own.URL()}
	}
	var err error
	r.server, err = oneServer(r.client.Servers)
	return r, err
}

func (r *run) end() {
	if r.own != nil {
		r.own.Close()
	}
}

// Run compares the levels and calls each with every result, as soon as there is
// one; an error of each ends the run. The error wraps ErrOptions, is the
// context's, or the client's: autopaho.ErrRefused for one.
func Run(ctx context.Context, o Options, each func(*Result) error) error {
	r, err := begin(o)
	if err != nil {
		return err
	}
	defer r.end()
	watcher, err := r.watch(ctx)
	if err != nil {
		return err
	}
	defer watcher.close()
	for _, kind := range r.opts.Links {
		for _, level := range levels() {
			result, err := r.level(ctx, watcher, kind, level)
			if err != nil {
				return err
			}
			if err := each(result); err != nil {
				return err
			}
		}
	}
	return nil
}

// root is what the topics of a level over a link begin with.
func (r *run) root(link string, level qos.Level) string {
	return strings.Join([]string{r.opts.Topic, r.name, link, level.String()}, "/")
}

// level sends the messages of one level over one link.
func (r *run) level(ctx context.Context, w *watcher, kind string, level qos.Level) (*Result, error) {
	l, err := r.startLink(kind)
	if err != nil {
		return nil, err
	}
	defer l.close()
	root := r.root(kind, level)
	t := newTally(level, r.opts.Messages)
	w.follow(root, t)
	defer w.follow("", nil)
	stop := r.observe(kind, t)
	defer stop()
	client, err := r.publisher(ctx, l, level, t)
	if err != nil {
		return nil, err
	}
	err = r.send(ctx, client, root, t)
	if err == nil {
		patience, cancel := context.WithTimeout(ctx, r.opts.Timeout)
		t.settle(patience, r.opts.Quiet)
		cancel()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = client.Err()
	}
	total, byKind, latency, answer := t.result()
	packets, again, cuts := l.wire.counts()
	result := &Result{
		Link: kind, Level: level, Counts: total, Latency: latency, Answer: answer,
		Packets: packets, Handshake: packets.Handshake(), Retransmissions: again,
		Connections: l.connections(), Cuts: cuts, Kinds: make(map[string]Counts, len(byKind)),
	}
	for i, k := range kinds() {
		result.Kinds[k.name] = byKind[i]
	}
	client.close()
	return result, err
}

// publisher connects through a link.
type publisher struct {
	*autopaho.Client
	store interface{ Close(context.Context) error }
}

func (r *run) publisher(ctx context.Context, l *link, level qos.Level, t *tally) (*publisher, error) {
	cfg := l.through(r.client)
	cfg.ClientID = "oncemq-qos-" + r.name
	cfg.Relay.ClientID = cfg.ClientID + "-" + level.String()
	cfg.SessionExpiry = time.Minute
	cfg.Policies.Default.Level = &level
	connected, failed := make(chan struct{}, 1), make(chan error, 1)
	cfg.OnEvent = func(e autopaho.Event) {
		switch e.Kind {
		case autopaho.EventConnected:
			offer(connected, struct{}{})
		case autopaho.EventError:
			offer(failed, e.Err)
		case autopaho.EventDelivered:
			t.answered(idNumber(e.MessageID), true)
		case autopaho.EventFailed:
			t.answered(idNumber(e.MessageID), false)
		default:
		}
	}
	store := r.opts.NewStore()
	cfg.Store = store
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, store.Close(ctx))
	}
	p := &publisher{client, store}
	// The time that connecting takes is nobody's latency.
	if err := r.await(ctx, client, connected, failed); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// offer puts what fits.
func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}

// await waits for the first connection.
func (r *run) await(ctx context.Context, client *autopaho.Client, connected <-chan struct{}, failed <-chan error) error {
	patience, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	var last error
	for {
		select {
		case <-connected:
			return nil
		case last = <-failed:
			if err := client.Err(); err != nil {
				return err
			}
		case <-patience.Done():
			if err := ctx.Err(); err != nil || last == nil {
				return patience.Err()
			}
			return fmt.Errorf("no connection within %s: %w", r.opts.Timeout, last)
		}
	}
}

func (p *publisher) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = p.Close(ctx) // what is left undone was counted
	_ = p.store.Close(ctx)
}

// send hands the messages over, at the rate.
func (r *run) send(ctx context.Context, client *publisher, root string, t *tally) error {
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := range r.opts.Messages {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(r.opts.Rate))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		t.sending(n)
		_, err := client.Enqueue(ctx, autopaho.Message{
			ID: idOf(root, n), Topic: topicOf(root, n), Payload: payloadOf(n),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// idOf is the message ID of a message, which ends in its number.
func idOf(root string, n int) string { return root + "/" + strconv.Itoa(n) }

func idNumber(id string) int {
	n, err := strconv.Atoi(id[strings.LastIndexByte(id, '/')+1:])
	if err != nil {
		return -1
	}
	return n
}

// observe tells how far a level is, until stopped.
func (r *run) observe(link string, t *tally) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	tell := func() {
		sent, seen := t.progress()
		r.opts.Observe(Progress{Link: link, Level: t.level, Sent: sent, Seen: seen, Of: r.opts.Messages})
	}
	tell()
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell()
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}
