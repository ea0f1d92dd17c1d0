package comparison

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// watcher is the subscriber. It is connected to the broker itself, not over a
// link, so that what it does not see was lost before.
type watcher struct {
	client *autopaho.Client

	mu    sync.Mutex // guards the following
	root  string
	tally *tally
}

// watch subscribes at QoS 2 to all that the run will send.
func (r *run) watch(ctx context.Context) (*watcher, error) {
	w := new(watcher)
	cfg := r.client
	cfg.ClientID = "oncemq-qos-" + r.name + "-sub"
	cfg.SessionExpiry = time.Minute
	cfg.ReceiveMaximum = 1000
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	w.client = client
	patience, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	_, err = client.Subscribe(patience, autopaho.SubscribeConfig{
		Filters: []string{r.opts.Topic + "/" + r.name + "/#"}, QoS: 2,
		Handler: w.message,
	})
	if err != nil {
		w.close()
		return nil, r.unanswered(ctx, err)
	}
	return w, nil
}

// unanswered names the broker in the error of a subscription that took too long.
func (r *run) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	server := r.server.Host
	if server == "" {
		server = r.server.Path // of a socket
	}
	return fmt.Errorf("%s did not take a subscription within %s: %w", server, r.opts.Timeout, err)
}

// follow has later messages below a root counted by a tally.
func (w *watcher) follow(root string, t *tally) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.root, w.tally = root, t
}

func (w *watcher) message(_ context.Context, m *autopaho.Received) error {
	w.mu.Lock()
	root, t := w.root, w.tally
	w.mu.Unlock()
	if t == nil || !strings.HasPrefix(m.Topic, root+"/") {
		return nil // a late copy of what was counted already
	}
	if n, ok := numberOf(m.Payload); ok {
		t.arrived(n, m.At)
	}
	return nil
}

func (w *watcher) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = w.client.Close(ctx)
}
