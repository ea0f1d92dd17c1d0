package fleet

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
)

// observer subscribes beside the fleet, undisturbed, and sees what reaches the
// broker: each message when it comes for the first time, and how often.
type observer struct {
	mu       sync.Mutex // guards the following
	arrivals map[string]int
	next     map[string]int // of each key
	disorder []string
}

// observe begins to watch. Closing the client is registered with t.
func observe(t *testing.T, ctx context.Context, broker string) *observer {
	t.Helper()
	o := &observer{arrivals: make(map[string]int), next: make(map[string]int)}
	client, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{broker}, ClientID: "observer", ReceiveMaximum: 1000,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close(context.Background())) })
	_, err = client.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"fleet/#"}, Workers: 1,
		OrderBy: func(*autopaho.Message) string { return "" }, // as they come
		Handler: func(_ context.Context, m *autopaho.Received) error {
			o.saw(m.ID, m.Topic, string(m.Payload))
			return nil
		},
	})
	require.NoError(t, err)
	return o
}

func (o *observer) saw(id, key, payload string) {
	seq, err := strconv.Atoi(payload)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrivals[id]++
	if o.arrivals[id] > 1 {
		return
	}
	if err != nil || seq != o.next[key] {
		o.disorder = append(o.disorder, key+" "+payload+" instead of "+strconv.Itoa(o.next[key]))
	}
	o.next[key] = seq + 1
}

// messages tells how many different ones have arrived, and how many more times
// some of them did.
func (o *observer) messages() (different, again int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.arrivals {
		again += n - 1
	}
	return len(o.arrivals), again
}

func (o *observer) disordered() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.disorder
}
