package chaos

import (
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
)

// The store fails over, again and again, and nothing is lost or doubled: PostgreSQL to
// a synchronous standby when the primary is killed, Redis when its Sentinels are told
// to. It is a test of its own, since such a set of servers costs a good deal more than
// one, and since Sentinels make of other faults of their master a failover that loses
// what was accepted. All kinds of faults are there in a run of some duration.
func TestChaosFailover(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]func(*testing.T) *backend{"postgres": onPair, "redis": onSentinels} {
		if only := os.Getenv("ONCEMQ_CHAOS_STORE"); only != "" && only != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, opts := on(t), chosen(t)
			if opts.duration == 0 {
				opts.messages, opts.faults, opts.pace = 3000, 14, 2*batchEach*time.Second/300
				opts.kinds = slices.DeleteFunc(opts.kinds, func(f faultKind) bool {
					return !slices.Contains([]string{"kill relay", "kill subscriber", "stop relay", "cut"}, f.kind)
				})
			}
			r := begin(t, b, opts)
			report := r.chaos()
			r.conclude(report)
			require.Positive(t, report.Faults[failsOver])
		})
	}
}

const failsOver = "fail over"

// pair is a PostgreSQL and its synchronous standby, which change places.
type pair struct{ primary, standby *testenv.PostgresServer }

var _ postgresServer = (*pair)(nil)

// The faults of a server strike the primary.

func (p *pair) Kill()              { p.primary.Kill() }
func (p *pair) Stop()              { p.primary.Stop() }
func (p *pair) Start()             { p.primary.Start() }
func (p *pair) Pause()             { p.primary.Pause() }
func (p *pair) Continue()          { p.primary.Continue() }
func (p *pair) TerminateBackends() { p.primary.TerminateBackends() }

// failOver kills the primary, promotes the standby, and makes a new standby of what
// was the primary: until that follows no commit is confirmed.
func (p *pair) failOver() faultKind {
	return faultKind{kind: failsOver, group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
		// Whoever promotes has to know that the standby is in step: while it is not,
		// commits whose clients were cut off are seen on the primary alone.
		p.standby.CatchUp(p.primary)
		p.primary.Kill()
		return between(n.random, 0, time.Second), func() {
			p.standby.Promote()
			p.primary, p.standby = p.standby, p.primary
			p.standby.Follow(p.primary)
		}
	}}
}

func onPair(t *testing.T) *backend {
	t.Helper()
	// A standby comes back to a primary that was away as soon as it can, and not after
	// five seconds, in which nothing is confirmed.
	o := testenv.PostgresOptions{MaxConnections: 200, Extra: []string{"wal_retrieve_retry_interval = 100ms"}}
	primary := testenv.Postgres(t, o)
	primary.Exec(postgresTables)
	// A standby copies the setting: once promoted it waits for one, too.
	primary.Exec("ALTER SYSTEM SET synchronous_standby_names = '*'")
	primary.Exec("SELECT pg_reload_conf()")
	p := &pair{primary: primary, standby: primary.Standby(t, o)}
	u, err := url.Parse(primary.URL())
	require.NoError(t, err)
	u.Host = primary.Addr() + "," + p.standby.Addr()
	b := postgresBackend("postgres with a standby", withQuery(u.String(), "target_session_attrs=read-write&connect_timeout=1"), p)
	// Twice: it is what this is about.
	b.kinds = append(b.kinds, p.failOver(), p.failOver())
	open(t, b.url, postgres.Driver{})
	return b
}

// onSentinels is a store on a Redis with two replicas, both of which have a change
// before it is confirmed: so whichever takes over has it.
func onSentinels(t *testing.T) *backend {
	t.Helper()
	set := testenv.RedisSentinel(t)
	for _, s := range set.Sentinels {
		// A busy machine is no reason to fail over, or to stand aside for long.
		s.Command("SENTINEL", "SET", set.MasterName, "down-after-milliseconds", "60000")
		s.Command("SENTINEL", "DEBUG", "TILT-PERIOD", "1000")
	}
	b := redisBackend("redis with sentinels",
		"redis+sentinel://"+strings.Join(set.Addrs(), ",")+"/"+set.MasterName+"/0?wait_replicas=2")
	failOver := faultKind{kind: failsOver, group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
		set.Failover()
		return between(n.random, 0, time.Second), set.AwaitReady
	}}
	// Twice: it is what this is about.
	b.kinds = []faultKind{memoryFull(set.Master), failOver, failOver}
	open(t, b.url, redis.Driver{})
	return b
}
