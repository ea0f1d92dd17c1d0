package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/history"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

const lanes = "lanes=4"

// The tables of effects have no unique constraint: it would hide doubles.
const (
	sqliteTables = `CREATE TABLE effects (n INTEGER PRIMARY KEY AUTOINCREMENT, msg_id TEXT, key TEXT, seq INTEGER, fence INTEGER,
		pod TEXT, at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')));
	CREATE TABLE accounts (pod TEXT, account INTEGER, balance INTEGER, PRIMARY KEY (pod, account))`
	postgresTables = `CREATE TABLE effects (n bigserial, msg_id text, key text, seq bigint, fence bigint,
		pod text, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE accounts (pod text, account int, balance bigint, PRIMARY KEY (pod, account))`
	countEffects   = "SELECT count(*) FROM effects"
	selectEffects  = "SELECT msg_id, pod, fence FROM effects ORDER BY n"
	selectBalances = "SELECT account, CAST(sum(balance) AS bigint) FROM accounts GROUP BY account"
)

// onSQLite is a store in a folder of its own, of limited size if that is possible.
func onSQLite(t *testing.T, leased bool) *backend {
	t.Helper()
	dir := t.TempDir()
	b := &backend{
		name: "sqlite", url: "sqlite://" + filepath.Join(dir, "store.db") + "?" + lanes, unshared: true,
		modes: []string{"tx", "batch"}, once: true, weight: 100, orders: []string{"plain", "plain", "plain", "tx", "rollback"},
	}
	if limited(t, dir, "size=400m") {
		b.kinds = append(b.kinds, diskFull(dir))
	}
	open(t, b.url, sqlite.Driver{})
	if leased {
		b.modes, b.once = []string{"leased", "leased"}, false
		return b
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "store.db")+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.ExecContext(t.Context(), sqliteTables)
	require.NoError(t, err)
	b.count = func(ctx context.Context) (n int, err error) {
		err = db.QueryRowContext(ctx, countEffects).Scan(&n)
		return n, err
	}
	b.effects = func() ([]history.Op, error) { return rows(db, selectEffects, effectOf) }
	b.balances = func() ([]history.Op, error) { return rows(db, selectBalances, balanceOf) }
	return b
}

// open makes the store, before many open it at once.
func open(t *testing.T, url string, driver persist.Driver) {
	t.Helper()
	store, err := persist.Open(t.Context(), url, driver)
	require.NoError(t, err)
	require.NoError(t, store.Close(t.Context()))
}

func onPostgres(t *testing.T) *backend {
	t.Helper()
	pg := testenv.Postgres(t, testenv.PostgresOptions{MaxConnections: 200})
	pg.Exec(postgresTables)
	b := postgresBackend("postgres", pg.URL(), pg)
	open(t, b.url, postgres.Driver{})
	if dir := smallTablespace(t, pg); dir != "" {
		b.kinds = append(b.kinds, diskFull(dir))
	}
	return b
}

// postgresServer is what the faults of a PostgreSQL need.
type postgresServer interface {
	server
	TerminateBackends()
}

// postgresBackend is the store of a URL, which leads to pg.
func postgresBackend(name, url string, pg postgresServer) *backend {
	b := &backend{
		name: name, url: withQuery(url, lanes), modes: []string{"batch", "tx", "batch"}, once: true, weight: 80,
		orders: []string{"plain", "plain", "plain", "tx", "held", "rollback"},
		kinds: append(serverFaults(pg), faultKind{
			kind: "terminate backends", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
				pg.TerminateBackends()
				return between(n.random, 0, 500*time.Millisecond), nil
			},
		}),
	}
	read := func(text string, one func(scan func(...any) error) (history.Op, error)) ([]history.Op, error) {
		conn, err := pgx.Connect(context.Background(), url)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close(context.Background()) }()
		list, err := conn.Query(context.Background(), text)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(list, func(row pgx.CollectableRow) (history.Op, error) { return one(row.Scan) })
	}
	b.count = func(ctx context.Context) (n int, err error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // it may stand still
		defer cancel()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return 0, err
		}
		defer func() { _ = conn.Close(context.Background()) }()
		err = conn.QueryRow(ctx, countEffects).Scan(&n)
		return n, err
	}
	b.effects = func() ([]history.Op, error) { return read(selectEffects, effectOf) }
	b.balances = func() ([]history.Op, error) { return read(selectBalances, balanceOf) }
	return b
}

// smallTablespace moves the tables of a store, and those of the effects, to a folder of
// limited size, if that is possible. The server's log stays where it is: without room
// for that it stops, and does not refuse.
func smallTablespace(t *testing.T, pg *testenv.PostgresServer) (dir string) {
	t.Helper()
	// Not within the test's own folder, which the server's user may not enter.
	dir, err := os.MkdirTemp("/tmp", "oncemq-full-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	if !limited(t, dir, "size=4g,mode=0755") {
		return ""
	}
	place := filepath.Join(dir, "tables")
	require.NoError(t, os.Mkdir(place, 0o700))
	owner, err := os.Stat(pg.Exec("SHOW data_directory"))
	require.NoError(t, err)
	who := owner.Sys().(*syscall.Stat_t)
	require.NoError(t, os.Chown(place, int(who.Uid), int(who.Gid)))
	pg.Exec("CREATE TABLESPACE small LOCATION '" + place + "'")
	pg.Exec("ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE small")
	pg.Exec("ALTER INDEX ALL IN TABLESPACE pg_default SET TABLESPACE small")
	return dir
}

func onRedis(t *testing.T) *backend {
	t.Helper()
	r := testenv.Redis(t, testenv.RedisOptions{AppendFsync: "always"})
	b := redisBackend("redis", r.URL())
	b.kinds = append(serverFaults(r), memoryFull(func() *testenv.RedisServer { return r }))
	open(t, b.url, redis.Driver{})
	return b
}

func redisBackend(name, url string) *backend {
	return &backend{
		name: name, url: withQuery(url, lanes), modes: []string{"leased", "leased", "leased"}, unshared: true, weight: 120,
		orders: []string{"plain"},
	}
}

func effectOf(scan func(...any) error) (history.Op, error) {
	var id, pod string
	var fence int64
	if err := scan(&id, &pod, &fence); err != nil {
		return history.Op{}, err
	}
	v, err := history.ParseID(id)
	return history.Op{Type: history.OK, Kind: history.Effect, Values: []history.Value{v}, Pod: pod, Fence: fence}, err
}

func balanceOf(scan func(...any) error) (history.Op, error) {
	op := history.Op{Type: history.OK, Kind: history.Balance}
	err := scan(&op.Account, &op.Amount)
	return op, err
}

func rows(db *sql.DB, text string, one func(scan func(...any) error) (history.Op, error)) (ops []history.Op, err error) {
	list, err := db.QueryContext(context.Background(), text)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	for list.Next() {
		op, err := one(list.Scan)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, list.Err()
}

// limited makes a folder one of limited size, if that is possible.
func limited(t *testing.T, dir, options string) bool {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Logf("no fault \"disk full\": a folder of limited size needs root: %v", err)
		return false
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return true
}

// memoryFull has the master refuse whatever takes memory.
func memoryFull(master func() *testenv.RedisServer) faultKind {
	return faultKind{kind: "memory full", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
		r := master()
		r.Command("CONFIG", "SET", "maxmemory", "1")
		return between(n.random, 300*time.Millisecond, 2*time.Second), func() { r.Command("CONFIG", "SET", "maxmemory", "0") }
	}}
}

// diskFull leaves a folder of limited size no room beyond what is in it.
func diskFull(dir string) faultKind {
	resize := func(size uint64) error {
		return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size))
	}
	return faultKind{kind: "disk full", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
		t := n.run.t
		var is syscall.Statfs_t
		for err := error(syscall.EINVAL); err != nil; {
			require.ErrorIs(t, err, syscall.EINVAL) // there is more in it by now
			require.NoError(t, syscall.Statfs(dir, &is))
			err = resize((is.Blocks - is.Bfree) * uint64(is.Bsize))
		}
		return between(n.random, 300*time.Millisecond, 2*time.Second), func() {
			require.NoError(t, resize(is.Blocks*uint64(is.Bsize)))
		}
	}}
}
