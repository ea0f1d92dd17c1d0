package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// eachStore runs a test on a new store of every kind that outlives a process.
func eachStore(t *testing.T, check func(t *testing.T, url string)) {
	t.Helper()
	for name, open := range map[string]func(t *testing.T) string{
		"sqlite":   fileStore,
		"postgres": postgresStore,
		"redis":    redisStore,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, open(t))
		})
	}
}

// postgresStore is a database of the test in the shared PostgreSQL.
func postgresStore(t *testing.T) string {
	t.Helper()
	return testenv.SharedPostgres(t).NewDatabase().URL()
}

// redisStore is a prefix of the test in the shared Redis.
func redisStore(t *testing.T) string {
	t.Helper()
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(t.Name()), "-")
	return withQuery(testenv.SharedRedis(t).URL(), fmt.Sprintf("prefix=%.40s-%d", name, time.Now().UnixNano()))
}

func withQuery(url, more string) string {
	if strings.Contains(url, "?") {
		return url + "&" + more
	}
	return url + "?" + more
}

// TestStoresAreAlike: the commands say and do the same, whatever keeps the
// messages.
func TestStoresAreAlike(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store string) {
		t.Helper()
		b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "refused", Code: 0x87}}})
		done := func(args ...string) string {
			got := runOnce(t, command(append(args, "--store", store)...))
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Empty(t, got.stderr)
			return got.stdout
		}
		done("pub", "--no-wait", "-t", "a", "-m", "one", "--message-id", "m-1")
		done("pub", "--no-wait", "-t", "a", "-m", "one again", "--message-id", "m-1") // is held already
		done("pub", "--no-wait", "-t", "refused", "-m", "two", "--message-id", "m-2")
		require.Contains(t, done("outbox", "stats"), "pending                      2\n")
		require.Equal(t, []string{"m-1 a pending 3", "m-2 refused pending 3"}, listed(t, done("outbox", "list", "--json")))

		got := runOnce(t, command("relay", "--once", "-L", nobody, "--store", store, "--timeout", "0.3"))
		require.Equal(t, exitStored, got.code, got.stderr)
		require.Contains(t, got.stderr, "oncemq relay: 2 pending and 0 delivered and awaiting receipts are left; last: ")

		done("relay", "--once", "-L", b.URL())
		require.Equal(t, []string{"one"}, payloads(b, "a"))
		require.Empty(t, done("outbox", "list"))
		require.Equal(t, []string{"m-2 refused failed 3"}, listed(t, done("outbox", "list", "--json", "--state", "failed")))
		var stats statsObject
		require.NoError(t, json.Unmarshal([]byte(done("outbox", "stats", "--json")), &stats))
		require.Zero(t, stats.Pending)
		require.EqualValues(t, 1, stats.Failed)

		// A pub that delivers by itself, and a sub that dedups.
		l := listen(t, brokertest.Options{}, "-t", "a", "-C", "2", "--group", "g", "--store", store)
		for _, payload := range []string{"one", "one", "two"} {
			done("pub", "-L", l.broker.URL(), "-t", "a", "-m", payload, "--message-id", payload)
		}
		heard := l.wait(t)
		require.Equal(t, exitDone, heard.code, heard.stderr)
		require.Equal(t, "one\ntwo\n", heard.stdout)
	})
}

// listed are the entries of outbox list --json, in short.
func listed(t *testing.T, out string) []string {
	t.Helper()
	var short []string
	for line := range strings.Lines(out) {
		var e entryObject
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		short = append(short, fmt.Sprint(e.ID, " ", e.Topic, " ", e.State, " ", e.PayloadLen))
	}
	return short
}

// TestStoreTrouble: what is wrong with a store is told in one line, with the
// exit code of a store that is not available, and without its password.
func TestStoreTrouble(t *testing.T) {
	t.Parallel()
	pg, other := testenv.SharedPostgres(t).NewDatabase(), testenv.SharedPostgres(t).NewDatabase()
	const canary = "s3cr3t-canary"
	pg.Exec("CREATE ROLE " + role(pg) + " LOGIN PASSWORD '" + canary + "'")
	require.Equal(t, exitDone, runOnce(t, command("outbox", "stats", "--store", pg.URL())).code)
	require.Equal(t, exitDone, runOnce(t, command("outbox", "stats", "--store", other.URL())).code)
	other.Exec("UPDATE oncemq.meta SET value = '999' WHERE name = 'schema'")
	as := func(user, password, rest string) string {
		return fmt.Sprintf("postgres://%s:%s@%s/%s", user, password, pg.Addr(), rest)
	}
	r := testenv.Redis(t, testenv.RedisOptions{Password: canary})
	evicting := testenv.Redis(t, testenv.RedisOptions{MaxMemory: "100mb", MaxMemoryPolicy: "allkeys-lru"})
	for name, test := range map[string]struct {
		store string
		code  int
		want  []string
	}{
		"postgres: nobody listens":   {"postgres://u:" + canary + "@127.0.0.1:1/d?sslmode=disable", exitStore, []string{"store is unavailable", "refused"}},
		"postgres: wrong password":   {as(pg.User(), canary, pg.Database()+"?sslmode=disable"), exitStore, []string{"password"}},
		"postgres: no such database": {strings.Replace(pg.URL(), "/"+pg.Database(), "/no_such_database", 1), exitStore, []string{"no_such_database"}},
		"postgres: missing grant":    {as(role(pg), canary, pg.Database()+"?sslmode=disable"), exitStore, []string{"permission"}},
		"postgres: newer schema":     {other.URL(), exitStore, []string{"999"}},
		"postgres: bad schema name":  {withQuery(pg.URL(), "schema=a%22%3B+drop"), exitUsage, []string{"schema"}},
		"postgres: lanes":            {withQuery(pg.URL(), "lanes=7"), exitUsage, []string{"lanes"}},
		"redis: nobody listens":      {"redis://:" + canary + "@127.0.0.1:1/0", exitStore, []string{"store is unavailable", "refused"}},
		"redis: wrong password":      {"redis://:wrong-" + canary + "@" + r.Addr() + "/0", exitStore, []string{"password"}},
		"redis: no password":         {"redis://" + r.Addr() + "/0", exitStore, []string{"NOAUTH"}},
		"redis: evicting":            {evicting.URL(), exitUsage, []string{"maxmemory-policy", "noeviction"}},
		"redis: bad prefix":          {withQuery(evicting.URL(), "prefix=%7Ba%7D"), exitUsage, []string{"prefix"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, args := range [][]string{{"pub", "-t", "a", "-m", "payload-canary", "--no-wait"}, {"outbox", "stats"}} {
				got := runOnce(t, command(append(args, "--store", test.store, "--debug")...))
				require.Equal(t, test.code, got.code, got.stderr)
				require.Empty(t, got.stdout)
				line := strings.TrimSpace(got.lastLine())
				require.Equal(t, 1, strings.Count(got.stderr, "\n"), "one line: %s", got.stderr)
				for _, want := range test.want {
					require.Contains(t, line, want)
				}
				require.NotContains(t, got.stderr, canary)
				require.NotContains(t, got.stderr, "payload-canary")
			}
		})
	}
}

// role is the name of a role of the database, for roles belong to all databases.
func role(pg *testenv.PostgresServer) string { return "app_" + strings.ToLower(pg.Database()) }

// TestStoreCommands: status and check change nothing, migrate creates the store
// and is done twice without harm.
func TestStoreCommands(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store string) {
		t.Helper()
		status := func() (r reportObject) {
			got := runOnce(t, command("store", "status", "--json", "--store", store))
			require.Equal(t, exitDone, got.code, got.stderr)
			require.NoError(t, json.Unmarshal([]byte(got.stdout), &r))
			return r
		}
		check := func() outcome { return runOnce(t, command("store", "check", "--store", store)) }

		r := status()
		require.Zero(t, r.Schema)
		require.Positive(t, r.Latest)
		require.NotEmpty(t, r.Server)
		require.NotEmpty(t, r.Durability)
		got := check()
		require.Equal(t, exitStore, got.code)
		require.Equal(t, "oncemq store check: --store: there is no store; oncemq store migrate creates it\n", got.stderr)
		require.Zero(t, status().Schema, "looking creates nothing")

		got = runOnce(t, command("store", "migrate", "--store", store))
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Equal(t, fmt.Sprintf("created at version %d\n", r.Latest), got.stdout)
		got = runOnce(t, command("store", "migrate", "--store", store))
		require.Equal(t, fmt.Sprintf("is at version %d already\n", r.Latest), got.stdout, got.stderr)
		require.Equal(t, r.Latest, status().Schema)
		got = check()
		require.Equal(t, outcome{stdout: "ok\n"}, got)
		require.Contains(t, runOnce(t, command("store", "status", "--store", store)).stdout, "the newest that this program knows")
	})
}

// TestGrants: with the grants of the operations page each role can do its own
// job, and is refused the others', in one line.
func TestGrants(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "```sql\n")
	require.True(t, ok)
	grants, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)

	pg := testenv.SharedPostgres(t).NewDatabase()
	require.Equal(t, exitDone, runOnce(t, command("outbox", "stats", "--store", pg.URL())).code, "created by its owner")
	jobs := []string{"enqueue", "relay", "consume", "read"}
	as := make(map[string]string) // the URL of each role
	for _, job := range jobs {
		name := strings.Replace(role(pg), "app_", "app_"+job+"_", 1)
		pg.Exec("CREATE ROLE " + name + " LOGIN PASSWORD 'secret'")
		grants = strings.ReplaceAll(grants, "app_"+job+";", name+";")
		as[job] = fmt.Sprintf("postgres://%s:secret@%s/%s?sslmode=disable", name, pg.Addr(), pg.Database())
	}
	pg.Exec(grants)

	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "refused", Code: 0x87}}})
	run := map[string]func(store string) outcome{
		"enqueue": func(store string) outcome {
			return runOnce(t, command("pub", "-t", "a", "-m", "x", "--message-id", "m", "--no-wait", "--store", store))
		},
		"relay": func(store string) outcome {
			pg.Exec("DELETE FROM oncemq.outbox; UPDATE oncemq.lanes SET pending = 0; DELETE FROM oncemq.arrivals")
			require.Equal(t, exitDone, runOnce(t, command("pub", "-t", "refused", "-m", "x", "--no-wait", "--store", pg.URL())).code)
			require.Equal(t, exitDone, runOnce(t, command("pub", "-t", "a", "-m", "x", "--no-wait", "--store", pg.URL())).code)
			return runOnce(t, command("relay", "--once", "-L", b.URL(), "--timeout", "5", "--store", store))
		},
		"consume": func(store string) outcome {
			l := listen(t, brokertest.Options{}, "-t", "a", "-C", "1", "-W", "2", "--group", "g", "--dedup-key", "content", "--store", store)
			l.publish("a", strconv.Itoa(rand.Int()), false) // a key of its own
			return l.wait(t)
		},
		"read": func(store string) outcome {
			got := runOnce(t, command("outbox", "list", "--state", "failed", "--store", store))
			if got.code != exitDone {
				return got
			}
			return runOnce(t, command("outbox", "stats", "--store", store))
		},
	}
	may := map[string][]string{
		// Who has to look messages up again can list them as well.
		"enqueue": {"enqueue", "read"},
		"relay":   {"relay", "enqueue", "read"},
		"consume": {"consume"},
		"read":    {"read"},
	}
	for _, who := range jobs {
		for _, what := range jobs {
			got := run[what](as[who])
			if slices.Contains(may[who], what) {
				require.Equal(t, exitDone, got.code, "%s as %s: %s", what, who, got.stderr)
				continue
			}
			require.NotEqual(t, exitDone, got.code, "%s as %s", what, who)
			require.NotContains(t, got.stderr, "secret")
		}
	}
}
