package dedup

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// process submits a message that was sent at a time, runs its handler if it may
// run, and tells what became of it.
func process(t *testing.T, c *Consumer, key string, sent time.Time) (ran bool, o Outcome, reason string) {
	t.Helper()
	d := newInbound()
	require.NoError(t, c.Submit(d, key, sent))
	select {
	case g := <-d.granted:
		if g.TooOld == nil {
			c.Complete(d, nil)
			return true, <-d.settled, ""
		}
		require.ErrorIs(t, g.TooOld, ErrTooOld)
		c.Complete(d, letterFor(g.TooOld.Error()))
		return false, <-d.settled, g.TooOld.Error()
	case o := <-d.settled:
		return false, o, ""
	}
}

func admissionConfig(store Store) Config {
	cfg := testConfig(store)
	cfg.Window, cfg.ClockSkew = 25*time.Hour, time.Hour
	return cfg
}

// What comes after its window is not run as if it were new, and what comes within
// is a duplicate, wherever the publisher's clock stands.
func TestRedeliveryAfterTheWindow(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{
		"right": 0, "ahead": time.Hour, "far ahead": 24 * time.Hour, "behind": -time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t)
				c := start(t, admissionConfig(store))
				sent := time.Now().Add(ahead)
				ran, o, _ := process(t, c, "a", sent)
				require.True(t, ran)
				require.Equal(t, OutcomeProcessed, o)
				duplicates := 0
				for {
					elapse(10 * time.Minute)
					ran, o, reason := process(t, c, "a", sent)
					require.False(t, ran, "it ran again after %s", time.Since(sent))
					if o == OutcomeDuplicate {
						duplicates++
						continue
					}
					require.Equal(t, OutcomeDead, o)
					require.Equal(t, "older than the dedup window: first sent "+
						sent.UTC().Format(time.RFC3339)+", window 25h0m0s", reason)
					break
				}
				require.Greater(t, duplicates, 6*25, "duplicates while the window was open")
			})
		})
	}
}

// A message that was never seen and is too old is refused; one that waited for
// days and tells when it was sent is not, nor is one that does not tell.
func TestOldMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, admissionConfig(newStore(t)))
		now := time.Now()
		old := persist.Message{ID: idOf(now.Add(-72 * time.Hour))}
		waited := user("message-id", idOf(now.Add(-72*time.Hour)), "first-sent", "")
		waited.Properties.User[1].Value = strconv.FormatInt(now.UnixMilli(), 10)
		unknown := persist.Message{ID: "order-4711"}
		for _, test := range []struct {
			key     string
			message *persist.Message
			runs    bool
		}{{"old", &old, false}, {"waited", &waited, true}, {"unknown", &unknown, true}} {
			sent, _ := SentAt(test.message)
			ran, _, _ := process(t, c, test.key, sent)
			require.Equal(t, test.runs, ran, test.key)
		}
		ran, o, _ := process(t, c, "", now.Add(-72*time.Hour))
		require.True(t, ran, "without a key there is no window")
		require.Equal(t, OutcomeProcessed, o)
		ran, _, reason := process(t, c, "ahead", now.Add(26*time.Hour))
		require.False(t, ran)
		require.Contains(t, reason, "publisher's clock is ahead by more than the dedup window: first sent ")
		ran, _, _ = process(t, c, "in the year 9999", time.UnixMilli(lastSent))
		require.False(t, ran)
	})
}

// The store's clock decides, and it is asked again when it is not known any more.
func TestStoreClockDecides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty(newStore(t))
		shifted := &shifted{faulty: store, by: -30 * 24 * time.Hour}
		c := start(t, admissionConfig(shifted))
		ran, _, _ := process(t, c, "a", time.Now().Add(-30*24*time.Hour))
		require.True(t, ran, "by the store's clock it is new")
		ran, _, _ = process(t, c, "b", time.Now())
		require.False(t, ran, "by the store's clock it is of the future")
		for range 10 {
			process(t, c, "a", time.Now().Add(-30*24*time.Hour))
		}
		require.Equal(t, 1, store.count("time"))
		elapse(2 * clockTrust)
		process(t, c, "a", time.Now().Add(-30*24*time.Hour))
		require.Equal(t, 2, store.count("time"))

		// Nothing is granted while nobody knows the time.
		elapse(2 * clockTrust)
		store.setDecide(func(op string, _ []string) fault {
			if op == "time" {
				return faultFail
			}
			return faultNone
		})
		d := submit(t, c, "c")
		elapse(time.Minute)
		d.undecided(t)
		store.setDecide(nil)
		<-d.granted
		c.Complete(d, nil)
		require.Equal(t, OutcomeProcessed, <-d.settled)
	})
}

// shifted is a store whose clock differs from ours.
type shifted struct {
	*faulty
	by time.Duration
}

func (s *shifted) Time(ctx context.Context) (time.Time, error) {
	now, err := s.faulty.Time(ctx)
	return now.Add(s.by), err
}

// Whatever the publishers' clocks say, and however often and late each message
// comes: none runs twice.
func TestNoClockMakesAMessageRunTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			cfg := admissionConfig(newStore(t))
			cfg.Window, cfg.ClockSkew = time.Minute, time.Duration(random.Int64N(int64(time.Minute)))
			one, two := start(t, cfg), start(t, cfg)
			type message struct {
				sent time.Time
				runs int
			}
			messages := make([]message, 20)
			for range 2000 {
				i := random.IntN(len(messages))
				m := &messages[i]
				if m.sent.IsZero() {
					m.sent = time.Now().Add(time.Duration(random.Int64N(int64(4*time.Minute))) - 2*time.Minute)
				}
				c := one
				if random.IntN(2) == 0 {
					c = two
				}
				if ran, _, _ := process(t, c, key(i), m.sent); ran {
					m.runs++
				}
				require.LessOrEqual(t, m.runs, 1, "sent %s ago", time.Since(m.sent))
				elapse(time.Duration(random.Int64N(int64(400 * time.Millisecond))))
			}
		})
	}
}

// In transactional mode a message that is too old is judged without its handler
// having run, alone and in a batch; its effects are none, its letter is there.
func TestTxTooOld(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"alone", "batch", "batch, released"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			store := newTxStore(t)
			cfg := txConfig(store)
			if mode != "alone" {
				cfg.MaxWait = time.Minute
				cfg.MaxBatch = 20
				cfg.Batch = insertAll
			}
			c := startTx(t, cfg)
			var mu sync.Mutex
			var seen []error
			var all []*txInbound
			for i := range 20 {
				d := newTxInbound(key(i))
				d.process = func(context.Context, *sql.Tx, Grant) error { return nil }
				d.failed = func(err error, attempts int) Verdict {
					mu.Lock()
					defer mu.Unlock()
					seen = append(seen, err)
					require.Equal(t, 1, attempts)
					if mode == "batch, released" {
						return Verdict{Release: true}
					}
					return Verdict{Dead: letterFor(err.Error())}
				}
				sent := time.Now()
				if i == 7 {
					sent = sent.Add(-72 * time.Hour)
				}
				require.NoError(t, c.Submit(d, d.key, sent))
				all = append(all, d)
			}
			for i, d := range all {
				want := OutcomeProcessed
				if i == 7 {
					want = OutcomeDead
					if mode == "batch, released" {
						want = OutcomeReleased
					}
				}
				require.Equal(t, want, d.outcome(t))
			}
			effects := store.effects(t)
			require.Len(t, effects, 19)
			require.Zero(t, effects[key(7)])
			require.NotEmpty(t, seen)
			for _, err := range seen {
				require.ErrorIs(t, err, ErrTooOld)
			}
			if mode != "batch, released" {
				require.Equal(t, map[string]int{key(7): 1}, store.letters(t))
			}
		})
	}
}

// insertAll writes one effect for each delivery.
func insertAll(ctx context.Context, tx *sql.Tx, batch []TxGrant[*sql.Tx]) error {
	for _, g := range batch {
		d, _ := g.Delivery.(*txInbound)
		if _, err := tx.ExecContext(ctx, "INSERT INTO effects VALUES (?, 1)", d.key); err != nil {
			return err
		}
	}
	return nil
}
