package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// lookOptions are the options of status.
type lookOptions struct {
	outboxOptions
	connection connectionOptions
	watch      time.Duration // zero: once
}

func (o *lookOptions) options() []*option {
	watch := statsOptions{}
	options := withEnv([]*option{{
		name: "watch", words: spanWords, def: "2s",
		usage: "look again every `INTERVAL` until stopped: in place on a terminal, elsewhere one after another",
		set: func(s string) error {
			err := watch.set(s)
			o.watch = watch.interval
			return err
		},
	}}, "watch")
	options = append(options, o.outboxOptions.options()...)
	options = append(options, o.connection.several("session-expiry", "receive-maximum", "max-packet-size", "max-inflight", "id-prefix", "nodelay")...)
	o.connection.given.urls.usage = urlUsage + severalUsage
	// The order of the help: what belongs to standard error stands last.
	var last []*option
	options = deleteOf(options, catReport, &last)
	return append(options, last...)
}

func statusCommand(sh *shell) *cli.Command {
	o := new(lookOptions)
	options := o.options()
	return &cli.Command{
		Name:      "status",
		Usage:     "show what a store holds, who works on it, and whether the broker answers",
		UsageText: "oncemq status [--store URL] [-h HOST | -L URL] [--watch[=INTERVAL]] [--json]",
		Description: `
Shows the outbox and its lanes with the relays that hold them, dead letters and
processed keys, of any store, while others work on it. With -h, -p, --url or --unix
it connects to the broker as well, under a client ID of its own and without a session.
sub --stats and relay --stats show the connection and the messages of a command that
runs.

Examples:
  oncemq status
  oncemq status --store postgres://app@db/app --broker mqtts://broker --watch
  oncemq status --json | jq .store.pending

Exit codes: 0 done, 1 the broker cannot be reached, 2 usage, 4 refused by the broker,
5 the store cannot be used.`,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return o.run(ctx, sh) }),
	}
}

// lookObject is what status --json prints.
type lookObject struct {
	Time       string        `json:"time"`
	Store      *statsObject  `json:"store,omitempty"`
	StoreError string        `json:"store_error,omitempty"`
	Broker     *brokerObject `json:"broker,omitempty"`
}

type brokerObject struct {
	Servers   []string `json:"servers"`
	Reachable bool     `json:"reachable"`
	connObject
}

func (o *lookOptions) run(ctx context.Context, sh *shell) error {
	store, err := o.store.openExisting(ctx, sh)
	if err != nil {
		return err
	}
	defer closeStore(sh, store)
	var p *brokerProbe
	if o.connection.named() {
		if p, err = startProbe(ctx, sh, &o.connection); err != nil {
			return err
		}
		defer p.close()
	}
	if o.watch == 0 {
		err := o.look(ctx, sh, store, p, nil)
		if err == nil && p != nil {
			return p.err()
		}
		return err
	}
	var s *screen
	if is, width, _ := terminal(sh.stdout); is && !o.json {
		s = newScreen(sh.stdout, width)
		sh.log.setBefore(s.clear)
		defer sh.log.setBefore(nil)
	}
	tick := time.NewTicker(o.watch)
	defer tick.Stop()
	for {
		if err := o.look(ctx, sh, store, p, s); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // the way in which a watch ends
		}
	}
}

// look prints how things are. While it is watched a store that is away is no
// reason to end.
func (o *lookOptions) look(ctx context.Context, sh *shell, store persist.Store, p *brokerProbe, s *screen) error {
	stats, err := store.Stats(ctx)
	if err != nil && o.watch == 0 {
		return storeError(ctx, err)
	}
	object := lookObject{Time: stamp(time.Now())}
	if err == nil {
		st := newStatsObject(store, &stats)
		object.Store = &st
	} else {
		object.StoreError = oneLine(err)
	}
	if p != nil {
		object.Broker = p.object(ctx)
	}
	if o.json {
		return written(writeLine(sh.stdout, object))
	}
	_, width, _ := terminal(sh.stdout)
	if s != nil {
		width = s.width - 1
	}
	text := ""
	if object.Broker != nil {
		text = object.Broker.text(width)
	}
	if err == nil {
		text += statsText(store, &stats, width)
	} else {
		r := rows{width: width}
		r.add(statusName("store"), object.StoreError)
		text += r.String()
	}
	if s == nil {
		_, err := io.WriteString(sh.stdout, text)
		return written(err)
	}
	s.show(sh.log, strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
	return nil
}

// statusName is a name as wide as the widest of the store's, below which it stands.
func statusName(name string) string { return fmt.Sprintf("%-27s", name) }

// text is the broker for people, on a terminal of a width, or on none.
func (o *brokerObject) text(width int) string {
	r := rows{width: width}
	r.add(statusName("broker"), strings.Join(o.Servers, " "))
	state := o.State
	if !o.Reachable && o.LastError != "" {
		state += fmt.Sprintf(" (%s: %s)", o.ErrorClass, o.LastError)
	}
	r.add(statusName("connection"), state)
	return r.String() + "\n"
}

// brokerProbe is a connection to the broker that carries nothing.
type brokerProbe struct {
	servers []string
	client  *autopaho.Client
	cancel  context.CancelFunc
	asked   chan struct{} // closed when Subscribe has returned
}

// startProbe connects, and returns once that has succeeded, or failed at every server.
func startProbe(ctx context.Context, sh *shell, o *connectionOptions) (*brokerProbe, error) {
	cfg, _, err := o.config(ctx, sh)
	if err != nil {
		return nil, err
	}
	cfg.SessionExpiry, cfg.CleanStart = -1, true
	var told <-chan struct{}
	cfg.OnEvent, told = triedAll(len(cfg.Servers))
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p := &brokerProbe{servers: cfg.Servers, client: client, asked: make(chan struct{})}
	asking, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	go func() {
		defer close(p.asked)
		// A subscription is what connects; nobody publishes to its topic, and
		// whether the broker allows it does not matter.
		_, _ = client.Subscribe(asking, autopaho.SubscribeConfig{
			Filters: []string{"oncemq/status"}, Retained: autopaho.RetainedNever,
			Handler: func(context.Context, *autopaho.Received) error { return nil },
		})
	}()
	select {
	case <-told:
	case <-ctx.Done():
	}
	return p, nil
}

// triedAll makes a function for a client's events, and the channel on which it tells
// that there is a connection, or will be none, or that every server was tried once.
func triedAll(servers int) (onEvent func(autopaho.Event), told <-chan struct{}) {
	done := make(chan struct{}, 1)
	var failed atomic.Int64
	return func(e autopaho.Event) {
		switch {
		case e.Kind == autopaho.EventConnected, e.Kind == autopaho.EventError && forGood(e.Err):
		case e.Kind == autopaho.EventError && e.ClientID != "" && failed.Add(1) >= int64(servers):
		default:
			return
		}
		select {
		case done <- struct{}{}:
		default:
		}
	}, done
}

// object is the broker at this moment.
func (p *brokerProbe) object(ctx context.Context) *brokerObject {
	o := &brokerObject{Servers: p.servers}
	for _, c := range p.client.Status(ctx).Connections {
		o.connObject = newConnObject(&c)
		o.Reachable = c.State == autopaho.StateConnected
	}
	return o
}

// err is why the broker cannot be reached; nil if it can.
func (p *brokerProbe) err() error {
	if err := p.client.Err(); err != nil {
		return err
	}
	for _, c := range p.client.Status(context.Background()).Connections {
		if c.State == autopaho.StateConnected {
			return nil
		}
		if c.LastError != nil {
			return &exitError{code: exitFailed, text: "the broker cannot be reached", err: c.LastError}
		}
	}
	return &exitError{code: exitFailed, err: errors.New("the broker cannot be reached")}
}

func (p *brokerProbe) close() {
	p.cancel()
	<-p.asked
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	_ = p.client.Close(ctx) // it carried nothing
}
