package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// site is where the suite's stores are: a server, and what to add to its URL.
type site struct {
	url     string // of the database, for what the tests do themselves
	store   string // of the database, for stores
	sqlTx   bool   // the caller's transactions are of database/sql
	count   *atomic.Int32
	workers *sync.Mutex
}

func harness(p site) persisttest.Harness {
	p.count, p.workers = new(atomic.Int32), new(sync.Mutex)
	if p.store == "" {
		p.store = p.url
	}
	return persisttest.Harness{
		New: func(t persisttest.T, opts persisttest.Options) persisttest.Backend {
			b := &backend{t: t, site: p, opts: opts, schema: fmt.Sprintf("store_%d", p.count.Add(1))}
			b.create()
			return b
		},
		Durable: true, Shared: true, FrozenClock: true, Notifies: true, Transacts: true, Corrupts: true,
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	persisttest.Run(t, harness(site{url: testenv.SharedPostgres(t).URL()}))
}

// TestStoreSQL is the suite with transactions of database/sql on the caller's side.
func TestStoreSQL(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("TestStore has the same but for the caller's transactions")
	}
	persisttest.Run(t, harness(site{url: testenv.SharedPostgres(t).URL(), sqlTx: true}))
}

func TestModel(t *testing.T) {
	t.Parallel()
	persisttest.RunModel(t, harness(site{url: testenv.SharedPostgres(t).URL()}))
}

func TestLinearizable(t *testing.T) {
	t.Parallel()
	persisttest.RunLinearizable(t, harness(site{url: testenv.SharedPostgres(t).URL()}))
}

// withOptions is a URL with more options.
func withOptions(rawURL string, options ...string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic(err)
	}
	values := u.Query()
	for i := 0; i < len(options); i += 2 {
		values.Set(options[i], options[i+1])
	}
	u.RawQuery = values.Encode()
	return u.String()
}

// backend opens the handles of one schema. Beside it is another of the same name
// with "_app", which is the caller's.
type backend struct {
	t      persisttest.T
	site   site
	opts   persisttest.Options
	schema string

	once sync.Once
	db   *sql.DB // the caller's
	pool *pgxpool.Pool
}

// create makes the store with a clock that stands still but for Advance: the
// function that tells the time is replaced by one that reads a table.
func (b *backend) create() {
	ctx := context.WithoutCancel(b.t.Context())
	s, err := Open(ctx, b.site.url, Options{Schema: b.schema, Lanes: b.opts.Lanes, MaxConns: 2})
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, s.Close(ctx)) }()
	for _, statement := range []string{
		"CREATE SCHEMA %s_app",
		"CREATE TABLE %[1]s.clock (ms bigint)",
		"INSERT INTO %[1]s.clock VALUES (1700000000123)",
		"CREATE OR REPLACE FUNCTION %[1]s.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT ms FROM %[1]s.clock'",
	} {
		_, err := s.pool.Exec(ctx, fmt.Sprintf(statement, b.schema))
		require.NoError(b.t, err)
	}
	b.t.Cleanup(func() {
		if b.db != nil {
			require.NoError(b.t, b.db.Close())
			b.pool.Close()
		}
	})
}

func (b *backend) Open(ctx context.Context) (persist.Store, error) {
	return Open(ctx, b.site.store, Options{Schema: b.schema, Lanes: b.opts.Lanes, MaxMessages: b.opts.Limits.Messages, MaxBytes: b.opts.Limits.Bytes, MaxAge: b.opts.Limits.Age})
}

func (b *backend) Advance(d time.Duration) {
	b.exec("UPDATE %s.clock SET ms = ms + %d", b.schema, d.Milliseconds())
}

func (b *backend) exec(format string, args ...any) {
	b.connect()
	_, err := b.pool.Exec(context.WithoutCancel(b.t.Context()), fmt.Sprintf(format, args...))
	require.NoError(b.t, err)
}

// connect opens the caller's handles, of both kinds.
func (b *backend) connect() {
	b.once.Do(func() {
		u := withOptions(b.site.url, "search_path", b.schema+"_app")
		var err error
		b.db, err = sql.Open("pgx", u)
		require.NoError(b.t, err)
		b.pool, err = pgxpool.New(context.WithoutCancel(b.t.Context()), u)
		require.NoError(b.t, err)
	})
}

func (b *backend) DB() *sql.DB {
	b.connect()
	return b.db
}

func (b *backend) BeginTx(ctx context.Context) (persisttest.CallerTx, error) {
	b.connect()
	if b.site.sqlTx {
		tx, err := b.db.BeginTx(ctx, nil)
		return callerSQLTx{tx}, err
	}
	tx, err := b.pool.Begin(ctx)
	return callerTx{tx: tx}, err
}

func (b *backend) ProcessTx(ctx context.Context, store persist.Store, fn persisttest.ProcessFunc) error {
	return store.(persist.TxProcessor[pgx.Tx]).ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
		return fn(ctx, p, callerTx{tx: p.Tx(), path: b.schema + "_app"})
	})
}

// callerTx is a transaction of pgx. On a connection of the store it has to name the
// caller's schema.
type callerTx struct {
	tx   pgx.Tx
	path string
}

func (c callerTx) Outbox(store persist.Store) persist.TxOutbox {
	return store.(persist.TxJoiner[pgx.Tx]).WithTx(c.tx)
}

func (c callerTx) Exec(ctx context.Context, statement string) error {
	if c.path != "" {
		if _, err := c.tx.Exec(ctx, "SET LOCAL search_path = "+c.path); err != nil {
			return err
		}
	}
	_, err := c.tx.Exec(ctx, statement)
	return err
}

func (c callerTx) Commit(ctx context.Context) error   { return c.tx.Commit(ctx) }
func (c callerTx) Rollback(ctx context.Context) error { return c.tx.Rollback(ctx) }

// callerSQLTx is a transaction of database/sql.
type callerSQLTx struct{ tx *sql.Tx }

func (c callerSQLTx) Outbox(store persist.Store) persist.TxOutbox {
	return store.(*Store).WithSQLTx(c.tx)
}

func (c callerSQLTx) Exec(ctx context.Context, statement string) error {
	_, err := c.tx.ExecContext(ctx, statement)
	return err
}

func (c callerSQLTx) Commit(context.Context) error   { return c.tx.Commit() }
func (c callerSQLTx) Rollback(context.Context) error { return c.tx.Rollback() }

func (b *backend) CorruptMessage(_ context.Context, ref persist.Ref) error {
	b.exec("UPDATE %s.outbox SET body = substr(body, 1, length(body) - 1) WHERE position = %d", b.schema, ref.Position)
	return nil
}

func (b *backend) CorruptDeadLetter(_ context.Context, number int64) error {
	b.exec(`UPDATE %s.dead_letters SET body = '\x01' WHERE number = %d`, b.schema, number)
	return nil
}

func (b *backend) CorruptSession(_ context.Context, clientID string) error {
	b.exec(`UPDATE %s.sessions SET states = substr(states, 1, length(states) - 1) WHERE convert_from(client_id, 'UTF8') = '%s'`, b.schema, clientID)
	return nil
}
