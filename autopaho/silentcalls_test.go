package autopaho_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
)

// lossy is a store's server, directly and by a way whose connections die without a
// word when a call that is waited for begins. New connections are good at once.
type lossy struct {
	direct persist.Store
	via    persist.Store
	url    string // of direct
	proxy  *fault.Proxy

	mu   sync.Mutex
	op   string
	fell chan struct{} // holds one: it has begun
	seen chan struct{} // holds one: the store was asked for its time, in vain
}

// newLossy is for "postgres" or "redis".
func newLossy(t *testing.T, kind string) *lossy {
	t.Helper()
	var addr string
	s := &lossy{fell: make(chan struct{}, 1), seen: make(chan struct{}, 1)}
	if kind == "redis" {
		server := testenv.SharedRedis(t)
		addr = server.Addr()
		s.url = fmt.Sprintf("%s?prefix=%s", server.URL(), strings.ToLower(strings.NewReplacer("/", ".", " ", "-").Replace(t.Name())))
	} else {
		server := testenv.SharedPostgres(t)
		addr, s.url = server.Addr(), server.URL()
	}
	s.proxy = fault.Start(t, addr)
	s.direct, s.via = opened(t, s.url), opened(t, strings.ReplaceAll(s.url, addr, s.proxy.Addr()))
	return s
}

// store is what a client gets.
func (s *lossy) store() persist.Store {
	if pg, ok := s.via.(*postgres.Store); ok {
		return &lossyPostgres{pg, lossyCalls{s.via, s}}
	}
	return &lossyCalls{s.via, s}
}

// loseAt has the connections die when the next call of op begins.
func (s *lossy) loseAt(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.op = op
}

func (s *lossy) begins(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.op == op {
		s.op = ""
		s.proxy.BlackHole(true)
		s.fell <- struct{}{}
	}
}

// returned waits for the loss, and until it is seen if it must be, ends it, and tells
// when that was.
func (s *lossy) returned(t *testing.T, seen bool) time.Time {
	t.Helper()
	select {
	case <-s.fell:
	case <-time.After(time.Minute):
		require.FailNow(t, "the call does not come")
	}
	if seen {
		select {
		case <-s.seen:
		case <-time.After(time.Minute):
			require.FailNow(t, "the store is not asked for its time")
		}
	}
	s.proxy.BlackHole(false)
	return time.Now()
}

type lossyCalls struct {
	persist.Store
	lossy *lossy
}

func (s *lossyCalls) Lanes(ctx context.Context) ([]persist.LaneInfo, error) {
	s.lossy.begins("Lanes")
	return s.Store.Lanes(ctx)
}

func (s *lossyCalls) AcquireLane(ctx context.Context, n int, owner string, ttl time.Duration) (persist.Lane, error) {
	s.lossy.begins("AcquireLane")
	return s.Store.AcquireLane(ctx, n, owner, ttl)
}

func (s *lossyCalls) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	s.lossy.begins("AnnounceRelay")
	return s.Store.AnnounceRelay(ctx, owner, ttl)
}

func (s *lossyCalls) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	s.lossy.begins("Claim")
	return s.Store.Claim(ctx, req)
}

func (s *lossyCalls) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	s.lossy.begins("Complete")
	return s.Store.Complete(ctx, group, completions, window)
}

// lossyPostgres has transactions as well.
type lossyPostgres struct {
	*postgres.Store
	calls lossyCalls
}

func (s *lossyPostgres) Lanes(ctx context.Context) ([]persist.LaneInfo, error) {
	return s.calls.Lanes(ctx)
}

func (s *lossyPostgres) AcquireLane(ctx context.Context, n int, owner string, ttl time.Duration) (persist.Lane, error) {
	return s.calls.AcquireLane(ctx, n, owner, ttl)
}

func (s *lossyPostgres) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	return s.calls.AnnounceRelay(ctx, owner, ttl)
}

func (s *lossyPostgres) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	return s.calls.Claim(ctx, req)
}

func (s *lossyPostgres) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	return s.calls.Complete(ctx, group, completions, window)
}

func (s *lossyPostgres) Time(ctx context.Context) (time.Time, error) {
	now, err := s.Store.Time(ctx)
	if err != nil {
		select {
		case s.calls.lossy.seen <- struct{}{}:
		default:
		}
	}
	return now, err
}

func (s *lossyPostgres) ProcessTx(ctx context.Context, fn func(context.Context, persist.TxProcess[pgx.Tx]) error) error {
	s.calls.lossy.begins("ProcessTx")
	return s.Store.ProcessTx(ctx, fn)
}

// ran counts the runs of a handler.
type ran struct {
	mu   sync.Mutex // guards the following
	runs map[string]int
}

func (e *ran) add(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs[id]++
}

func (e *ran) of(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs[id]
}

// The connections to the store die without a word as a consumer begins to claim, to
// complete, or a transaction, or in the midst of one. Its work goes on soon after, and
// each message has its effect once.
func TestConsumerGoesOnAfterSilentLoss(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for _, test := range []struct{ store, op string }{
		{"postgres", "Claim"},
		{"redis", "Claim"},
		{"redis", "Complete"},
		{"postgres", "ProcessTx"},
		{"postgres", "statement"},
	} {
		t.Run(test.store+"/"+test.op, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 4*time.Minute)
			s := newLossy(t, test.store)
			did := &ran{runs: make(map[string]int)}
			had := did.of         // how often a message had its effect
			atServer := func() {} // the server finds out, too
			sub := autopaho.SubscribeConfig{Filters: []string{"t/" + t.Name()}, Group: "g"}
			if test.op == "Claim" || test.op == "Complete" {
				sub.Handler = func(_ context.Context, m *autopaho.Received) error {
					did.add(m.ID)
					return nil
				}
			} else {
				db, err := pgx.Connect(ctx, s.url)
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, db.Close(context.Background())) })
				_, err = db.Exec(ctx, "CREATE TABLE effects (id text)")
				require.NoError(t, err)
				sub.TxHandler = autopaho.InTx(func(ctx context.Context, tx pgx.Tx, m *autopaho.Received) error {
					did.add(m.ID)
					s.begins("statement")
					_, err := tx.Exec(ctx, "INSERT INTO effects VALUES ($1)", m.ID)
					return err
				})
				atServer = func() { // else the transaction's locks stay
					_, err := db.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
						WHERE datname = current_database() AND state = 'idle in transaction'`)
					require.NoError(t, err)
				}
				had = func(id string) (n int) {
					require.NoError(t, db.QueryRow(ctx, "SELECT count(*) FROM effects WHERE id = $1", id).Scan(&n))
					return n
				}
			}
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: s.store(), Relay: autopaho.RelayConfig{Off: true}})
			t.Cleanup(func() { s.proxy.CutAll(fault.RST) }) // who closes need not wait for the dead ones
			_, err := c.Subscribe(ctx, sub)
			require.NoError(t, err)
			publisher := client(t, autopaho.Config{Servers: []string{b.URL()}})
			publish := func(id string) {
				_, err := publisher.Publish(ctx, autopaho.Message{ID: id, Topic: sub.Filters[0], QoS: 1})
				require.NoError(t, err)
			}
			settled := func(id string) {
				eventually(t, func() bool { return did.of(id) > 0 && c.Unsettled() == 0 }, 90*time.Second, 10*time.Millisecond, "%s", id)
				require.Equal(t, 1, had(id))
			}
			publish("first")
			settled("first")
			// A machine that has a lot to do may be late once, but not each time.
			var took time.Duration
			for n := range 3 {
				id := fmt.Sprint("lost ", n)
				s.loseAt(test.op)
				publish(id)
				back := s.returned(t, test.op == "statement")
				atServer()
				settled(id)
				took = time.Since(back)
				t.Logf("settled %s after the return", took.Round(time.Millisecond))
				if took < goesOn {
					return
				}
			}
			require.Less(t, took, goesOn)
		})
	}
}

// goesOn is within what time work normally has gone on for long: it takes two seconds
// and a half at most.
const goesOn = 8 * time.Second

// The connections to the store die without a word as a relay that has no lane asks
// for them, announces itself or takes one. It takes the lane that gets free soon
// after.
func TestRelayTakesLaneAfterSilentLoss(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for _, test := range []struct{ store, op string }{
		{"postgres", "Lanes"},
		{"postgres", "AnnounceRelay"},
		{"postgres", "AcquireLane"},
		{"redis", "AcquireLane"},
	} {
		op := test.op
		t.Run(test.store+"/"+op, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 4*time.Minute)
			s := newLossy(t, test.store)
			var dies persist.Lane
			if op != "AcquireLane" {
				var err error
				dies, err = s.direct.AcquireLane(ctx, 0, "dies", 10*time.Minute)
				require.NoError(t, err)
			}
			if op != "Lanes" { // which New calls as well
				s.loseAt(op)
			}
			client(t, autopaho.Config{
				Servers: []string{b.URL()}, Store: s.store(), Relay: autopaho.RelayConfig{Lease: 5 * time.Minute},
			})
			t.Cleanup(func() { s.proxy.CutAll(fault.RST) }) // who closes need not wait for the dead ones
			if op == "Lanes" {
				s.loseAt(op)
			}
			_, err := s.direct.Enqueue(ctx, []persist.Message{{ID: "a", Topic: "t", QoS: 1}})
			require.NoError(t, err)
			back := s.returned(t, false)
			if dies != nil {
				require.NoError(t, dies.Release(ctx))
			}
			eventually(t, func() bool {
				stats, err := s.direct.Stats(ctx)
				require.NoError(t, err)
				return stats.Pending == 0
			}, 60*time.Second, 10*time.Millisecond, "the message is sent")
			t.Logf("sent %s after the return", time.Since(back).Round(time.Millisecond))
		})
	}
}

// As many consumers as the pool has connections, and more, are caught by a silence at
// once: none of them waits until the driver has closed what they gave up, which takes it
// fifteen seconds.
func TestManyConsumersGoOnAfterSilentLoss(t *testing.T) {
	t.Parallel()
	const groups = 12
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 2*time.Minute)
	server := testenv.SharedPostgres(t)
	proxy := fault.Start(t, server.Addr())
	store := opened(t, strings.ReplaceAll(server.URL(), server.Addr(), proxy.Addr()))
	did := &ran{runs: make(map[string]int)}
	var mu sync.Mutex
	failed := make(map[string]bool) // groups that have found the store silent
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, OnEvent: func(e autopaho.Event) {
		if group, _, ok := strings.Cut(fmt.Sprint(e.Err), ":"); ok && e.Kind == autopaho.EventError {
			mu.Lock()
			defer mu.Unlock()
			failed[group] = true
		}
	}})
	t.Cleanup(func() { proxy.CutAll(fault.RST) })
	for i := range groups {
		_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{fmt.Sprint("t/", i)}, Group: fmt.Sprint("g", i),
			Handler: func(_ context.Context, m *autopaho.Received) error {
				did.add(m.ID)
				return nil
			},
		})
		require.NoError(t, err)
	}
	publisher := client(t, autopaho.Config{Servers: []string{b.URL()}})
	publish := func(id string) {
		for i := range groups {
			_, err := publisher.Publish(ctx, autopaho.Message{ID: fmt.Sprint(id, i), Topic: fmt.Sprint("t/", i), QoS: 1})
			require.NoError(t, err)
		}
	}
	settled := func(id string) {
		eventually(t, func() bool {
			for i := range groups {
				if did.of(fmt.Sprint(id, i)) == 0 {
					return false
				}
			}
			return c.Unsettled() == 0
		}, time.Minute, 10*time.Millisecond, "%s", id)
	}
	publish("before")
	settled("before")
	proxy.BlackHole(true)
	publish("lost")
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(failed) >= groups
	}, time.Minute, 10*time.Millisecond, "all find it silent")
	proxy.BlackHole(false)
	back := time.Now()
	settled("lost")
	t.Logf("settled %s after the return", time.Since(back).Round(time.Millisecond))
	require.Less(t, time.Since(back), 10*time.Second)
	for i := range groups {
		require.Equal(t, 1, did.of(fmt.Sprint("lost", i)))
	}
}
