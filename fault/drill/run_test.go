package drill

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func scenario(t *testing.T, name string) fault.Scenario {
	t.Helper()
	s, err := fault.Find(name)
	require.NoError(t, err)
	return s
}

// embeddedBroker is a broker of the test.
func embeddedBroker(t *testing.T) Broker {
	t.Helper()
	b, err := Embedded(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func mosquittoBroker(t *testing.T) Broker {
	t.Helper()
	testenv.Program(t, "mosquitto", "mosquitto")
	b, err := Mosquitto(t.Context(), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// Nothing is lost and nothing doubled in any scenario, in short form. They mostly
// wait, so several run at once, each with a broker of its own.
func TestScenarios(t *testing.T) {
	t.Parallel()
	var drills []Options
	add := func(s fault.Scenario, broker Broker, store string) {
		o := Options{Scenario: s, Broker: broker, Store: store, Folder: t.TempDir(), Scale: 0.05, Rate: 60, Seed: 1}
		if s.QoS > 0 {
			o.Rate = 200 // there must be enough packets for its traps
		}
		drills = append(drills, o)
	}
	for i, s := range fault.Scenarios() {
		add(s, embeddedBroker(t), []string{"memory:", "memory:", ""}[i%3])
	}
	add(scenario(t, "cut-after-pubrec"), mosquittoBroker(t), testenv.SharedPostgres(t).URL())
	add(scenario(t, "session-forgotten"), mosquittoBroker(t), testenv.SharedRedis(t).URL())
	add(scenario(t, "broker-restart"), mosquittoBroker(t), testenv.SharedPostgres(t).URL())
	const most = 6
	room := make(chan struct{}, most)
	var playing sync.WaitGroup
	for _, o := range drills {
		room <- struct{}{}
		playing.Go(func() {
			check(t, o)
			<-room
		})
	}
	playing.Wait()
}

// check runs a drill that must end well.
func check(t *testing.T, o Options) {
	t.Helper()
	s := &o.Scenario
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Errorf("%s: %v", s.Name, err)
		return
	}
	t.Logf("%+v", *r)
	if !r.OK || r.Sent == 0 || r.Delivered != r.Sent || r.State != StateSettled || r.RecoverySeconds < 0 {
		t.Errorf("%s: %+v", s.Name, *r)
	}
	certain := s.Restarts || slices.Contains([]string{"cut", "intermittent", "half-open", "session-forgotten"}, s.Name)
	if certain && r.Reconnects == 0 {
		t.Errorf("%s: nobody has noticed it: %+v", s.Name, *r)
	}
}

// What the promise rests on is taken away, and it is missed.
func TestSabotage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario string
		sabotage Sabotage
		broker   func(t *testing.T) Broker
		rate     int
		damaged  func(r *Result) bool
	}{
		{"session-forgotten", Sabotage{Receipts: true}, mosquittoBroker, 300, func(r *Result) bool { return r.Lost > 0 && r.Doubled == 0 }},
		{"broker-restart", Sabotage{Receipts: true}, embeddedBroker, 300, func(r *Result) bool { return r.Lost > 0 && r.Doubled == 0 }},
		// However little comes in a moment, there is something to forget.
		{"broker-restart", Sabotage{Receipts: true}, embeddedBroker, 20, func(r *Result) bool { return r.Lost > 0 && r.Doubled == 0 }},
	} {
		t.Run(fmt.Sprintf("%s/%d", c.scenario, c.rate), func(t *testing.T) {
			t.Parallel()
			r, err := Run(t.Context(), Options{
				Scenario: scenario(t, c.scenario), Broker: c.broker(t), Folder: t.TempDir(),
				Scale: 0.2, Rate: c.rate, Seed: 1, Sabotage: c.sabotage,
			})
			require.NoError(t, err)
			require.True(t, c.damaged(r), "%+v", *r)
			require.False(t, r.OK)
			require.True(t, r.Damage())
		})
	}
}

// A drill that is interrupted leaves nothing: no schema, no key, no session, no
// goroutine, and the broker is up.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	redisURL, client := redisAt(t, testenv.SharedRedis(t), "5") // others are in 0
	dir := t.TempDir()
	for _, store := range []string{pg.URL(), redisURL, "sqlite://" + dir + "/mine.db"} {
		reason := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		broker := embeddedBroker(t)
		_, err := Run(ctx, Options{
			Scenario: scenario(t, "broker-restart"), Broker: broker, Store: store, Folder: t.TempDir(), Scale: 0.1,
			Observe: func(p Progress) {
				if p.Step == "broker killed" {
					cancel(reason)
				}
			},
		})
		require.ErrorIs(t, err, reason)
		require.NoError(t, accepts(t.Context(), broker, nil))
	}
	require.Empty(t, strings.TrimSpace(pg.Exec(`SELECT nspname FROM pg_namespace WHERE nspname LIKE 'oncemq%'`)))
	keys, err := client.DBSize(t.Context()).Result()
	require.NoError(t, err)
	require.Zero(t, keys)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// redisAt is the URL of a database of a Redis, and a client of it.
func redisAt(t *testing.T, rd *testenv.RedisServer, database string) (string, *goredis.Client) {
	t.Helper()
	u, err := url.Parse(rd.URL())
	require.NoError(t, err)
	u.Path = "/" + database
	options, err := goredis.ParseURL(u.String())
	require.NoError(t, err)
	client := goredis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return u.String(), client
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	good := Options{Scenario: scenario(t, "cut"), Broker: embeddedBroker(t), Folder: t.TempDir()}
	require.NoError(t, good.Validate())
	remote, err := Remote(autopaho.Config{Servers: []string{"mqtt://localhost"}}, "")
	require.NoError(t, err)
	for want, change := range map[string]func(*Options){
		"rate: 10001 is out of range": func(o *Options) { o.Rate = 10_001 },
		"scale: -1 is out of range":   func(o *Options) { o.Scale = -1 },
		"limit: 1ms is too short":     func(o *Options) { o.Limit = 1e6 },
		"broker: is missing":          func(o *Options) { o.Broker = nil },
		"folder: is missing":          func(o *Options) { o.Folder = "" },
		"broker-restart: localhost:1883 is not ours to restart": func(o *Options) {
			o.Scenario, o.Broker = scenario(t, "broker-restart"), remote
		},
	} {
		o := good
		change(&o)
		_, err := Run(t.Context(), o)
		require.ErrorIs(t, err, ErrOptions)
		require.ErrorContains(t, err, want)
	}
	dir := t.TempDir()
	for _, store := range []string{
		"mysql://host", "redis+cluster://host", "postgres://h/d?lanes=0", "memory://x", "%", "sqlite://" + dir + "/none/x.db",
	} {
		o := good
		o.Store = store
		_, err := Run(t.Context(), o)
		require.ErrorIs(t, err, persist.ErrInvalid, store)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestRemote(t *testing.T) {
	t.Parallel()
	b, err := Remote(autopaho.Config{Servers: []string{"mqtts://broker.example"}, Username: "ann", Password: []byte("secret")}, "true")
	require.NoError(t, err)
	require.Equal(t, "broker.example:8883", b.String())
	var login autopaho.Config
	b.Login(&login)
	require.Equal(t, "ann", login.Username)
	require.Equal(t, "secret", string(login.Password))
	require.True(t, b.Restarts())
	require.NoError(t, b.Kill(t.Context()))
	for want, servers := range map[string][]string{
		"scheme": {"http://host"}, "no host": {"mqtt://"}, "one broker": {"mqtt://a", "mqtt://b"}, "one": nil,
	} {
		_, err := Remote(autopaho.Config{Servers: servers}, "")
		require.ErrorContains(t, err, want)
	}
	broken, err := Remote(autopaho.Config{Servers: []string{"mqtt://host"}}, "echo no such thing >&2; exit 3")
	require.NoError(t, err)
	require.ErrorContains(t, broken.Kill(t.Context()), "exit status 3: no such thing")
}
