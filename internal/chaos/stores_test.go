package chaos

import (
	"context"
	"database/sql"
	"errors"
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
	const size = "size=400m"
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size); err == nil {
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
		b.kinds = append(b.kinds, diskFull(dir))
	} else {
		t.Logf("no fault \"disk full\": a folder of limited size needs root: %v", err)
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
	b := &backend{
		name: "postgres", url: withQuery(pg.URL(), lanes), modes: []string{"batch", "tx", "batch"}, once: true, weight: 80,
		orders: []string{"plain", "plain", "plain", "tx", "held", "rollback"},
		kinds: append(serverFaults(pg), fault{
			kind: "terminate backends", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
				pg.TerminateBackends()
				return between(n.random, 0, 500*time.Millisecond), nil
			},
		}),
	}
	open(t, b.url, postgres.Driver{})
	read := func(text string, one func(scan func(...any) error) (history.Op, error)) ([]history.Op, error) {
		conn, err := pgx.Connect(context.Background(), pg.URL())
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
		conn, err := pgx.Connect(ctx, pg.URL())
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

func onRedis(t *testing.T) *backend {
	t.Helper()
	r := testenv.Redis(t, testenv.RedisOptions{AppendFsync: "always"})
	b := &backend{
		name: "redis", url: withQuery(r.URL(), lanes), modes: []string{"leased", "leased", "leased"}, unshared: true, weight: 120,
		orders: []string{"plain"}, kinds: serverFaults(r),
	}
	open(t, b.url, redis.Driver{})
	return b
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

// diskFull takes all the space that a folder of limited size has left.
func diskFull(dir string) fault {
	return fault{kind: "disk full", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
		path := filepath.Join(dir, "filler")
		f, err := os.Create(path)
		require.NoError(n.run.t, err)
		block := make([]byte, 1<<20)
		for size := len(block); size > 0; {
			if _, err := f.Write(block[:size]); err != nil {
				size /= 2
			}
		}
		require.NoError(n.run.t, f.Close())
		return between(n.random, 300*time.Millisecond, 2*time.Second), func() { require.NoError(n.run.t, os.Remove(path)) }
	}}
}
