package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncemq/oncemq/internal/silence"
	"github.com/oncemq/oncemq/persist"
)

// Open opens the store of a URL, and creates or migrates its schema if need be
// and if it may: see [Driver] for the URL's options, which win over opts, and
// [Options].
//
// The error wraps [persist.ErrInvalid] for a URL or options that cannot be, or
// another number of lanes than the store has; [persist.ErrSchema] for a schema
// that is missing, older or newer and cannot be migrated; [persist.ErrReadOnly]
// for a standby; and [persist.ErrUnavailable] for a server that cannot be reached,
// or refuses us: a wrong password, no such database, a missing right. It never
// shows the password.
func Open(ctx context.Context, rawURL string, opts Options) (*Store, error) {
	const op = "open"
	config, opts, err := configOf(rawURL, opts)
	if err != nil {
		return nil, &persist.Error{Op: op, Err: err}
	}
	name := placeName(config.ConnConfig, opts.Schema)
	s, server, err := openQuietly(ctx, config, opts, name)
	if err != nil {
		return nil, translate(op, name, err)
	}
	if err := s.open(ctx, server); err != nil {
		s.pool.Close()
		return nil, translate(op, name, err)
	}
	return s, nil
}

// New opens the store in a database of the caller, whose pool stays open when the
// store is closed. The pool must not use the simple protocol, and should have room
// for the store's calls beside the caller's own. Behind a pooler that knows no
// prepared statements the caller sets the pool's query mode, see
// [pgx.QueryExecModeCacheDescribe].
//
// Errors are those of [Open].
func New(ctx context.Context, pool *pgxpool.Pool, opts Options) (*Store, error) {
	const op = "open"
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, invalid(op, "", err)
	}
	config := pool.Config().ConnConfig
	if config.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return nil, invalid(op, "", errSimpleProtocol)
	}
	s := newStore(pool, opts, placeName(config, opts.Schema))
	if s.q, err = loadQueries(opts.Schema); err != nil {
		return nil, translate(op, s.name, err)
	}
	server, err := s.probePool(ctx)
	if err == nil {
		err = server.isolated()
	}
	if err == nil {
		err = s.open(ctx, server)
	}
	if err != nil {
		return nil, translate(op, s.name, err)
	}
	return s, nil
}

// errSimpleProtocol: values would be written into the text of statements.
var errSimpleProtocol = errors.New("the simple protocol is not supported; choose another default_query_exec_mode")

// configOf reads a URL and checks options.
func configOf(rawURL string, opts Options) (*pgxpool.Config, Options, error) {
	rest, opts, err := splitURL(rawURL, opts)
	if err != nil {
		return nil, opts, err
	}
	opts, err = opts.withDefaults()
	if err != nil {
		return nil, opts, fmt.Errorf("%w: %w", persist.ErrInvalid, err)
	}
	config, err := pgxpool.ParseConfig(rest)
	if err != nil {
		// pgx hides the password in its text where it recognises one.
		return nil, opts, fmt.Errorf("%w: postgres URL: %s", persist.ErrInvalid, parseFault(err, rest))
	}
	if config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return nil, opts, fmt.Errorf("%w: %w", persist.ErrInvalid, errSimpleProtocol)
	}
	switch {
	case opts.MaxConns > 0:
		config.MaxConns = int32(opts.MaxConns)
	case !strings.Contains(rest, "pool_max_conns"):
		config.MaxConns = defaultMaxConns
	}
	config.PingTimeout = cmp.Or(config.PingTimeout, pingTimeout)
	config.ConnConfig.ConnectTimeout = cmp.Or(config.ConnConfig.ConnectTimeout, connectTimeout)
	config.ConnConfig.DialFunc = new(silence.Watch).Dial(config.ConnConfig.DialFunc)
	if _, ok := config.ConnConfig.RuntimeParams["application_name"]; !ok {
		config.ConnConfig.RuntimeParams["application_name"] = "oncemq"
	}
	return config, opts, nil
}

// A connection that died without a word has a place in the pool for as long as pgx tries
// it, or tries to make it, also if its caller has gone: a minute or two unless the URL or
// these say less. Until then all that come when the server is back wait for a place. For
// one that a call has given up see giveBack.
const (
	// pingTimeout is for how long one is tried that was idle.
	pingTimeout = time.Second
	// connectTimeout is for how long one is made, with each address of the server.
	connectTimeout = 3 * time.Second
)

// parseFault is why pgx cannot read a URL, without the URL.
func parseFault(err error, rawURL string) string {
	text := err.Error()
	if _, after, found := strings.Cut(text, "`: "); found {
		text = after
	}
	if u, err := url.Parse(rawURL); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok && password != "" && strings.Contains(text, password) {
			return "it cannot be parsed"
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// placeName names a store in errors: host, database and schema.
func placeName(config *pgx.ConnConfig, schema string) string {
	return fmt.Sprintf("%s:%d/%s schema %s", config.Host, config.Port, config.Database, schema)
}

// server is what is known of a server before it is used.
type server struct {
	pooled   bool // somebody stands between us and it
	standby  bool
	readOnly bool
	version  int
	// isolation is default_transaction_isolation.
	isolation string
	settings  serverSettings
}

// serverSettings are those that Durability speaks of.
type serverSettings struct {
	fsync, fullPageWrites, synchronousCommit, standbys string
}

// minVersion is the oldest PostgreSQL, as server_version_num.
const minVersion = 130000

// probe connects once and looks.
func probe(ctx context.Context, config *pgx.ConnConfig) (server, error) {
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return server{}, err
	}
	v, err := look(ctx, c)
	return v, both(err, c.Close(context.WithoutCancel(ctx)))
}

// probePool looks on a connection of the pool.
func (s *Store) probePool(ctx context.Context) (server, error) {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return server{}, err
	}
	defer c.Release()
	return look(ctx, c.Conn())
}

// look asks a server for what must be known. A pooler tells each client a process
// number of its own, to know it by when it wants to cancel something.
func look(ctx context.Context, c *pgx.Conn) (server, error) {
	q, err := loadQueries(defaultSchema)
	if err != nil {
		return server{}, err
	}
	var v server
	var process uint32
	var readOnly string
	err = c.QueryRow(ctx, q.serverSettings.text, pgx.QueryExecModeExec).Scan(&process, &v.standby, &v.version,
		&v.settings.fsync, &v.settings.fullPageWrites, &v.settings.synchronousCommit, &v.settings.standbys, &readOnly, &v.isolation)
	if err != nil {
		return server{}, err
	}
	v.pooled = process != c.PgConn().PID()
	v.readOnly = readOnly == "on"
	return v, v.usable()
}

// readCommitted is the isolation that the statements are written for: each sees
// what was committed before it began, in a transaction too. With a stricter one a
// claim would not see the completion that it has waited for.
const readCommitted = "read committed"

// isolated demands that isolation where it cannot be set.
func (v *server) isolated() error {
	if v.isolation != readCommitted {
		return fmt.Errorf("%w: default_transaction_isolation is %s, must be %s for this role", persist.ErrInvalid, v.isolation, readCommitted)
	}
	return nil
}

// usable tells why a store cannot be on the server.
func (v *server) usable() error {
	switch {
	case v.version < minVersion:
		return fmt.Errorf("%w: the server is PostgreSQL %d, 13 or later is needed", persist.ErrInvalid, v.version/10000)
	case v.standby:
		return fmt.Errorf("%w: the server is a standby; connect to its primary (target_session_attrs=read-write finds it)", persist.ErrReadOnly)
	case v.readOnly:
		return fmt.Errorf("%w: default_transaction_read_only is on", persist.ErrReadOnly)
	}
	return nil
}

// open makes the tables, if need be, and reads what was settled.
func (s *Store) open(ctx context.Context, v server) (err error) {
	s.pooled = v.pooled
	s.durability = v.settings
	_, _, err = s.migrate(ctx, s.opts.Migrate)
	return err
}

// openQuietly makes a store of which nothing was looked at yet but the server.
func openQuietly(ctx context.Context, config *pgxpool.Config, opts Options, name string) (*Store, server, error) {
	v, err := probe(ctx, config.ConnConfig)
	if err != nil {
		return nil, v, err
	}
	if v.pooled && config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		// The next transaction may run elsewhere, where nothing was prepared.
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if v.pooled {
		// A pooler takes no such setting with the connection.
		if err := v.isolated(); err != nil {
			return nil, v, err
		}
	} else {
		config.ConnConfig.RuntimeParams["default_transaction_isolation"] = readCommitted
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	if err != nil {
		return nil, v, err
	}
	s := newStore(pool, opts, name)
	s.owned = true
	if s.q, err = loadQueries(opts.Schema); err != nil {
		pool.Close()
		return nil, v, err
	}
	return s, v, nil
}
