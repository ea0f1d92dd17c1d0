package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

const secret = "s3cret-Canary"

// refused demands an error of a kind, in one line, that shows no password.
func refused(t *testing.T, err, kind error, parts ...string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	text := fmt.Sprintf("%v %+v", err, err)
	require.NotContains(t, text, secret)
	require.NotContains(t, err.Error(), "\n")
	for _, part := range parts {
		require.Contains(t, text, part)
	}
}

// tryOpen opens a store that is expected not to open.
func tryOpen(t *testing.T, url string, opts Options) error {
	t.Helper()
	s, err := Open(t.Context(), url, opts)
	if err == nil {
		require.NoError(t, s.Close(context.Background()))
	}
	return err
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	good, err := url.Parse(pg.URL())
	require.NoError(t, err)
	with := func(change func(u *url.URL)) string {
		u := *good
		change(&u)
		return u.String()
	}
	closed := with(func(u *url.URL) { u.Host, u.User = "127.0.0.1:1,127.0.0.1:2", url.UserPassword("oncemq", secret) })
	for name, c := range map[string]struct {
		url   string
		opts  Options
		kind  error
		parts []string
	}{
		"password":             {with(func(u *url.URL) { u.User = url.UserPassword("nobody", secret) }), Options{}, persist.ErrUnavailable, []string{"nobody"}},
		"database":             {with(func(u *url.URL) { u.Path = "/absent" }), Options{}, persist.ErrUnavailable, []string{"absent"}},
		"nobody listens":       {closed, Options{}, persist.ErrUnavailable, []string{"refused"}},
		"schema name":          {pg.URL(), Options{Schema: `x"; DROP SCHEMA public`}, persist.ErrInvalid, []string{"schema"}},
		"schema of the server": {pg.URL(), Options{Schema: "pg_x"}, persist.ErrInvalid, []string{"schema"}},
		"lanes":                {pg.URL(), Options{Lanes: 65, MaxMessages: -1}, persist.ErrInvalid, []string{"lanes", "max_messages"}},
		"no schema":            {pg.URL(), Options{Schema: "absent", Migrate: MigrateOff}, persist.ErrSchema, []string{"migrate"}},
		"option":               {withOptions(pg.URL(), "lanes", "many"), Options{}, persist.ErrInvalid, []string{"lanes"}},
		"simple protocol":      {withOptions(pg.URL(), "default_query_exec_mode", "simple_protocol"), Options{}, persist.ErrInvalid, []string{"simple protocol"}},
		"unknown parameter":    {withOptions(pg.URL(), "no_such_setting", "1"), Options{}, persist.ErrUnavailable, []string{"no_such_setting"}},
		"sslmode":              {"postgres://u:" + secret + "@h/d?sslmode=maybe", Options{}, persist.ErrInvalid, []string{"sslmode"}},
		"port":                 {"postgres://u:" + secret + "@h:x" + secret + "/d", Options{}, persist.ErrInvalid, nil},
		"not a URL":            {"host=h password=" + secret, Options{}, persist.ErrInvalid, nil},
		"escape":               {"postgres://u:" + secret + "@h/d?a=%zz", Options{}, persist.ErrInvalid, nil},
	} {
		refused(t, tryOpen(t, c.url, c.opts), c.kind, append(c.parts, "open")...)
		require.NotEmpty(t, name)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(cancelled, pg.URL(), Options{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestLanesAreFixed(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, withOptions(pg.URL(), "lanes", "3", "schema", "mine", "listen", "off", "max_conns", "2"), Options{})
	require.Equal(t, 3, s.lanes)
	require.True(t, s.opts.NoListen)
	require.EqualValues(t, 2, s.pool.Config().MaxConns)
	same := openStore(t, pg.URL(), Options{Schema: "mine"})
	require.Equal(t, s.Identity(), same.Identity())
	require.Equal(t, 3, same.lanes)
	refused(t, tryOpen(t, pg.URL(), Options{Schema: "mine", Lanes: 2}), persist.ErrInvalid, "3 lanes")
	other := openStore(t, pg.URL(), Options{})
	require.NotEqual(t, s.Identity(), other.Identity())
	require.Equal(t, 1, other.lanes)
	require.Contains(t, s.Durability(), "survives the loss of power")
}

func TestDriver(t *testing.T) {
	t.Parallel()
	store, err := persist.Open(t.Context(), testenv.SharedPostgres(t).URL()+"&schema=by_driver", Driver{})
	require.NoError(t, err)
	require.Equal(t, "by_driver", store.(*Store).opts.Schema)
	require.NoError(t, store.Close(t.Context()))
	_, err = persist.Open(t.Context(), "postgresql://u:"+secret+"@127.0.0.1:1/d", Driver{})
	refused(t, err, persist.ErrUnavailable)
}

// Ten processes start at once on an empty database, and one of them creates.
func TestTenMigratorsAtOnce(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	var all sync.WaitGroup
	stores, errs := make([]*Store, 10), make([]error, 10)
	for i := range stores {
		all.Go(func() { stores[i], errs[i] = Open(t.Context(), pg.URL(), Options{Lanes: 2, MaxConns: 2}) })
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	for _, s := range stores {
		require.Equal(t, stores[0].Identity(), s.Identity())
		require.Equal(t, stores[0].sequences, s.sequences)
		require.NoError(t, s.Close(t.Context()))
	}
}

func TestSchemaVersions(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	report, err := Check(t.Context(), pg.URL(), Options{})
	require.NoError(t, err)
	require.Zero(t, report.Schema)
	require.Positive(t, report.Latest)
	from, to, err := Migrate(t.Context(), pg.URL(), Options{Lanes: 2, Migrate: MigrateOff})
	require.NoError(t, err)
	require.Zero(t, from)
	require.Positive(t, to)
	from, again, err := Migrate(t.Context(), pg.URL(), Options{})
	require.NoError(t, err)
	require.Equal(t, to, from)
	require.Equal(t, to, again)
	report, err = Check(t.Context(), pg.URL(), Options{})
	require.NoError(t, err)
	require.Equal(t, to, report.Schema)
	require.Empty(t, report.Missing)
	require.False(t, report.Pooled)
	s := openStore(t, pg.URL(), Options{Migrate: MigrateOff})
	require.Equal(t, 2, s.lanes)

	pg.Exec("UPDATE oncemq.meta SET value = '99' WHERE name = 'schema'")
	refused(t, tryOpen(t, pg.URL(), Options{}), persist.ErrSchema, "99", fmt.Sprint(to))
	_, _, err = Migrate(t.Context(), pg.URL(), Options{})
	refused(t, err, persist.ErrSchema, "99")
	pg.Exec("UPDATE oncemq.meta SET value = '0' WHERE name = 'schema'")
	refused(t, tryOpen(t, pg.URL(), Options{Migrate: MigrateOff}), persist.ErrSchema, "version 0", "migrate=off")
	pg.Exec("UPDATE oncemq.meta SET value = 'x' WHERE name = 'schema'")
	refused(t, tryOpen(t, pg.URL(), Options{}), persist.ErrCorrupt)
	pg.Exec("DROP TABLE oncemq.outbox")
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("m")})
	refused(t, err, persist.ErrSchema, "outbox")
}

// A role that may use the store and not create anything, and one that may not even
// do that.
func TestRights(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	role := "app_" + pg.Database()
	pg.Exec(fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", role, secret))
	t.Cleanup(func() {
		_, err := pg.TryExec(context.Background(), fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
		require.NoError(t, err)
	})
	u, err := url.Parse(pg.URL())
	require.NoError(t, err)
	u.User = url.UserPassword(role, secret)

	refused(t, tryOpen(t, u.String(), Options{}), persist.ErrUnavailable, "permission denied", pg.Database())
	_, _, err = Migrate(t.Context(), pg.URL(), Options{})
	require.NoError(t, err)
	refused(t, tryOpen(t, u.String(), Options{}), persist.ErrUnavailable, "permission denied", "schema oncemq")
	pg.Exec("GRANT USAGE ON SCHEMA oncemq TO " + role + "; GRANT SELECT ON ALL TABLES IN SCHEMA oncemq TO " + role)
	s := openStore(t, u.String(), Options{})
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("m")})
	refused(t, err, persist.ErrUnavailable, "permission denied", "arrivals")
	report, err := Check(t.Context(), u.String(), Options{})
	require.NoError(t, err)
	require.Contains(t, report.Missing, "INSERT on oncemq.outbox")
	require.Contains(t, report.Missing, "USAGE on oncemq.positions_0")
	require.NotContains(t, report.Missing, "SELECT on oncemq.outbox")
	pg.Exec("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA oncemq TO " + role +
		"; GRANT USAGE ON ALL SEQUENCES IN SCHEMA oncemq TO " + role)
	enqueue(t, s, "m")
	require.Equal(t, []string{"m"}, next(t, acquire(t, s)))
	_, err = s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Keys: []string{"k"}, TTL: time.Minute})
	require.NoError(t, err)
	require.NoError(t, s.AddDeadLetters(t.Context(), []persist.DeadLetter{{Side: persist.SideConsumer, State: persist.StateFailed}}))
	_, err = s.ExpireProcessed(t.Context(), 10)
	require.NoError(t, err)
}

func TestStandbyRefused(t *testing.T) {
	t.Parallel()
	primary := testenv.Postgres(t, testenv.PostgresOptions{})
	openStore(t, primary.URL(), Options{})
	standby := primary.Standby(t, testenv.PostgresOptions{})
	refused(t, tryOpen(t, standby.URL(), Options{}), persist.ErrReadOnly, "standby")
	primary.Exec("ALTER DATABASE oncemq SET default_transaction_read_only = on")
	refused(t, tryOpen(t, primary.URL(), Options{}), persist.ErrReadOnly, "default_transaction_read_only")
}

// A pool of the caller stays open, and its settings stay what they were.
func TestCallersPool(t *testing.T) {
	t.Parallel()
	pool := openPool(t, testenv.SharedPostgres(t).URL())
	s, err := New(t.Context(), pool, Options{Schema: "own"})
	require.NoError(t, err)
	enqueue(t, s, "a")
	require.Equal(t, []string{"a"}, next(t, acquire(t, s)))
	settings := "SELECT current_setting('enable_seqscan') || current_setting('jit') || current_setting('plan_cache_mode')"
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		var before, after string
		require.NoError(t, tx.QueryRow(t.Context(), settings).Scan(&before))
		m := plainMessage("b")
		m.Idempotent = true
		_, err := s.WithTx(tx).Enqueue(t.Context(), []persist.Message{m})
		require.NoError(t, err)
		require.NoError(t, tx.QueryRow(t.Context(), settings).Scan(&after))
		require.Equal(t, before, after)
		return nil
	}))
	require.NoError(t, s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
		var before, after string
		require.NoError(t, p.Tx().QueryRow(ctx, settings).Scan(&before))
		_, err := p.Begin(ctx, "g", []string{"k"}, time.Hour)
		require.NoError(t, err)
		require.NoError(t, p.Tx().QueryRow(ctx, settings).Scan(&after))
		require.Equal(t, before, after)
		return nil
	}))
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, pool.Ping(t.Context()))
	var count int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM own.outbox").Scan(&count))
	require.Equal(t, 2, count)

	config := pool.Config()
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	simple, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer simple.Close()
	_, err = New(t.Context(), simple, Options{})
	refused(t, err, persist.ErrInvalid, "simple protocol")
}

func TestValidSchema(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"oncemq", "_", "a1", strings.Repeat("a", 31)} {
		require.True(t, validSchema(name), name)
	}
	for _, name := range []string{"", "1a", "A", "a b", `a"`, "a\x00", "größe", "pg_a", "a.b", "a-b", strings.Repeat("a", 32)} {
		require.False(t, validSchema(name), name)
	}
}
