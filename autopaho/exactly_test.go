package autopaho_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// envSuicide tells a publisher process, the test binary started once more, when to
// kill itself with SIGKILL. It gets envBroker and envStore as well.
const envSuicide = "ONCEMQ_TEST_SUICIDE"

// The moments at which a publisher process dies.
const (
	neverDies     = "never"
	diesPublished = "published" // saved as published, not written
	diesReleased  = "released"  // all saved as released, the last PUBREL not written
	diesSettling  = "settling"  // PUBCOMP has come, before that is durable
)

// exactlyLease is the lease of publisher processes and of who comes after them.
const exactlyLease = 2 * time.Second

func openStore(ctx context.Context, url string) (persist.Store, error) {
	return persist.Open(ctx, url, memory.Driver{}, sqlite.Driver{}, postgres.Driver{}, redis.Driver{})
}

// publisherProcess drains a store until it is told to end, or dies.
func publisherProcess() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, err := openStore(ctx, os.Getenv(envStore))
	if err != nil {
		return err
	}
	when := os.Getenv(envSuicide)
	inner := store
	if when == diesSettling {
		faulty, faults := persisttest.NewFaulty(inner)
		hold := faults.Hold(persisttest.OpLaneSettle, 1)
		go func() {
			<-hold.Reached()
			die()
		}()
		inner = faulty
	}
	c, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{os.Getenv(envBroker)}, Store: &mortal{inner, when},
		Relay:  autopaho.RelayConfig{Lease: exactlyLease, Poll: 20 * time.Millisecond},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.Close(end); err != nil {
		return err
	}
	return store.Close(end)
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// mortal is a store whose user dies when a save has been made durable.
type mortal struct {
	persist.Store
	when string
}

func (m *mortal) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	l, err := m.Store.AcquireLane(ctx, number, owner, ttl)
	if err != nil {
		return nil, err
	}
	return &mortalLane{l, m}, nil
}

type mortalLane struct {
	persist.Lane
	m *mortal
}

func (l *mortalLane) SaveSession(ctx context.Context, clientID string, states []persist.PacketState) error {
	m := l.m
	err := l.Lane.SaveSession(ctx, clientID, states)
	want := map[string]persist.PacketStep{diesPublished: persist.StepPublished, diesReleased: persist.StepReleased}[m.when]
	if err == nil && want != 0 && len(states) == exactlyMessages {
		for _, p := range states {
			if p.Step != want {
				return nil
			}
		}
		die()
	}
	return err
}

func startPublisher(t *testing.T, broker, url, when string) *testenv.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envSuicide+"="+when, envBroker+"="+broker, envStore+"="+url)
	return testenv.Start(t, cmd)
}

func sqliteURL(t *testing.T) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "store.db")
}

// eachDurableURL runs a test with the URL of a new store of each kind that survives
// its user.
func eachDurableURL(t *testing.T, check func(t *testing.T, url string)) {
	t.Helper()
	for kind, url := range map[string]func(t *testing.T) string{
		"sqlite": sqliteURL,
		"postgres": func(t *testing.T) string {
			t.Helper()
			h := fnv.New64a()
			_, _ = h.Write([]byte(t.Name())) // never fails
			return fmt.Sprintf("%s&schema=x%x&max_conns=3", testenv.SharedPostgres(t).URL(), h.Sum64())
		},
		"redis": func(t *testing.T) string {
			t.Helper()
			return fmt.Sprintf("%s?prefix=%s", testenv.SharedRedis(t).URL(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", ".")))
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			check(t, url(t))
		})
	}
}

const exactlyMessages = 3

// enqueueExactly stores messages of QoS 2 with the payloads "from", "from+1" and so
// on, which nobody drains yet.
func enqueueExactly(t *testing.T, store persist.Store, from, n int) {
	t.Helper()
	msgs := make([]persist.Message, n)
	for i := range msgs {
		id := strconv.Itoa(from + i)
		msgs[i] = persist.Message{ID: "m" + id, Topic: "exactly", QoS: 2, Payload: []byte(id)}
	}
	_, err := store.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
}

// relayOn drains a store with a client of this process.
func relayOn(t *testing.T, broker string, store persist.Store) *autopaho.Client {
	t.Helper()
	return client(t, autopaho.Config{
		Servers: []string{broker}, Store: store,
		Relay: autopaho.RelayConfig{Lease: exactlyLease, Poll: 20 * time.Millisecond},
	})
}

// firstLife plays the broker until the publisher is dead, and returns the packet
// identifiers of the messages, as far as they came.
func firstLife(t *testing.T, l *brokertest.Listener, p *testenv.Process, when string) (ids []uint16) {
	t.Helper()
	c := l.Accept(t.Context())
	require.True(t, c.ExpectConnect().Connect.CleanStart, "nothing was in flight")
	c.SendConnack(false, 0)
	if when == diesPublished {
		c.ExpectClosed() // before a byte of PUBLISH
		return []uint16{0, 0, 0}
	}
	for i := range exactlyMessages {
		ids = append(ids, c.ExpectPublish(brokertest.HasPayload(strconv.Itoa(i)), brokertest.HasDUP(false)).PacketID)
	}
	if when == "after PUBLISH" {
		p.Kill()
		return ids
	}
	for _, id := range ids {
		c.SendPubrec(id, 0)
	}
	if when == diesReleased {
		for {
			if q, err := c.ReadPacket(t.Context()); err != nil {
				break
			} else if q.Type != brokertest.PUBREL {
				require.Equal(t, brokertest.PINGREQ, q.Type)
			}
		}
		return ids
	}
	for _, id := range ids {
		c.ExpectPubrel(brokertest.HasID(id))
	}
	if when == "after PUBREL" {
		p.Kill()
		return ids
	}
	for _, id := range ids {
		c.SendPubcomp(id, 0)
	}
	c.ExpectClosed()
	return ids
}

// secondLife plays the broker for the next process. If it kept the session it gets
// no message again: of those whose PUBREC it had sent PUBREL alone, the others as
// repetitions under their identifiers. If it did not it gets all of them as new. A
// message that is newer comes after them.
func secondLife(t *testing.T, l *brokertest.Listener, ids []uint16, when string, kept bool) {
	t.Helper()
	c := l.Accept(t.Context())
	require.False(t, c.ExpectConnect().Connect.CleanStart, "the session is gone on with")
	c.SendConnack(kept, 0)
	if released := when == diesReleased || when == "after PUBREL" || when == diesSettling; kept && released {
		for _, id := range ids {
			c.ExpectPubrel(brokertest.HasID(id), brokertest.HasCode(0))
		}
		newer := c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasDUP(false)).PacketID
		for _, id := range ids {
			code := byte(0)
			if when == diesSettling {
				code = 0x92 // it had ended the exchange
			}
			c.SendPubcomp(id, code)
		}
		ids = []uint16{newer}
	} else {
		for i, id := range ids {
			q := c.ExpectPublish(brokertest.HasPayload(strconv.Itoa(i)), brokertest.HasDUP(kept))
			if kept && id != 0 {
				require.Equal(t, id, q.PacketID)
			}
			ids[i] = q.PacketID
		}
		ids = append(ids, c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasDUP(false)).PacketID)
	}
	for _, id := range ids {
		c.SendPubrec(id, 0)
	}
	for _, id := range ids {
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
}

// The publisher is killed with -9 at each step of the exchange. The broker gets every
// message exactly once if it keeps the session, and again if it does not; nothing
// newer comes before.
func TestExactlyOnceAcrossKill(t *testing.T) {
	t.Parallel()
	for _, when := range []string{diesPublished, "after PUBLISH", diesReleased, "after PUBREL", diesSettling} {
		for _, kept := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/kept %t", when, kept), func(t *testing.T) {
				t.Parallel()
				each := eachDurableURL
				if !kept { // which is the same for every store
					each = func(t *testing.T, check func(t *testing.T, url string)) {
						t.Helper()
						check(t, sqliteURL(t))
					}
				}
				each(t, func(t *testing.T, url string) {
					t.Helper()
					store := opened(t, url)
					enqueueExactly(t, store, 0, exactlyMessages)
					l := brokertest.Listen(t)
					p := startPublisher(t, l.URL(), url, when)
					ids := firstLife(t, l, p, when)
					require.NotZero(t, p.Wait(10*time.Second))
					enqueueExactly(t, store, exactlyMessages, 1)
					relayOn(t, l.URL(), store)
					secondLife(t, l, ids, when, kept)
					drained(t, within(t, 20*time.Second), store)
				})
			})
		}
	}
}
