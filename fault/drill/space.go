package drill

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/effects"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// table is where effects are.
type table interface {
	Add(ctx context.Context, messageID, replica string) error
	Count(ctx context.Context) (int, error)
	IDs(ctx context.Context) ([]string, error)
	Close() error
}

// space is a part of a store that the drill has to itself.
type space struct {
	effects table
	// open opens the store; each client has a handle of its own.
	open func(ctx context.Context) (persist.Store, error)
	// inTx makes a handler whose effect commits with the mark; nil if the store has
	// no such transactions.
	inTx func(replica string) autopaho.TxHandler
	// remove deletes the space.
	remove func(ctx context.Context) error
}

// newSpace makes a space in the store of a URL, or in a file in the folder if that
// is empty. An error wraps persist.ErrInvalid for a URL that cannot be.
func newSpace(ctx context.Context, raw, folder string) (*space, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The text of a url.Error holds the URL, and with it the password.
		return nil, fmt.Errorf("%w: store URL cannot be parsed", persist.ErrInvalid)
	}
	switch u.Scheme {
	case "", "sqlite":
		return sqliteSpace(ctx, u, folder)
	case "postgres", "postgresql":
		return postgresSpace(ctx, u)
	case "redis", "rediss", "unix":
		return redisSpace(ctx, u, folder)
	case "memory":
		return memorySpace(ctx, u, folder)
	case "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster":
		return nil, fmt.Errorf("%w: chaos works on one Redis server; name that by redis:// or rediss://", persist.ErrInvalid)
	}
	return nil, fmt.Errorf("%w: store scheme %q is unknown; there are sqlite, postgres, redis and memory", persist.ErrInvalid, u.Scheme)
}

// spaceName is a name that no other space has.
func spaceName() string { return "oncemq_chaos_" + strings.ToLower(rand.Text()[:10]) }

// inFile is the table of effects of a store that cannot have one.
func inFile(ctx context.Context, folder string) (table, error) {
	return effects.OpenSQLite(ctx, filepath.Join(folder, spaceName()+".effects.db"))
}

// sqliteSpace is a file of its own: beside the one that the URL names, on whose disk
// it is, or in the folder.
func sqliteSpace(ctx context.Context, u *url.URL, folder string) (*space, error) {
	named := u.Path
	if u.Opaque != "" {
		var err error
		if named, err = url.PathUnescape(u.Opaque); err != nil {
			return nil, fmt.Errorf("%w: the path of the sqlite URL cannot be read", persist.ErrInvalid)
		}
	}
	if named != "" {
		folder = filepath.Dir(filepath.FromSlash(named))
		// The store would make it, and it would be left behind.
		if _, err := os.Stat(folder); err != nil { //nolint:gosec // the user names it
			return nil, fmt.Errorf("%w: there is no folder for a file: %w", persist.ErrInvalid, err)
		}
	}
	file := filepath.Join(folder, spaceName()+".db")
	own := *u
	own.Scheme, own.Path, own.RawPath, own.Opaque = "sqlite", filepath.ToSlash(file), "", ""
	if !filepath.IsAbs(file) {
		own.Path, own.Opaque = "", (&url.URL{Path: filepath.ToSlash(file)}).EscapedPath()
	}
	remove := func(context.Context) error {
		var errs []error
		for _, end := range []string{"", "-wal", "-shm", "-journal"} {
			err := os.Remove(file + end) //nolint:gosec // it is our own, beside one that the user names
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	open := func(ctx context.Context) (persist.Store, error) {
		return persist.Open(ctx, own.String(), sqlite.Driver{})
	}
	if err := tryOpen(ctx, open); err != nil {
		return nil, errors.Join(err, remove(ctx))
	}
	rows, err := effects.OpenSQLite(ctx, file)
	if err != nil {
		return nil, errors.Join(err, remove(ctx))
	}
	return &space{
		effects: rows, open: open, remove: remove,
		inTx: func(replica string) autopaho.TxHandler {
			return autopaho.InTx(func(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
				_, err := tx.ExecContext(ctx, effects.InsertSQLite, m.ID, replica)
				return err
			})
		},
	}, nil
}

// postgresSpace is a schema of its own.
func postgresSpace(ctx context.Context, u *url.URL) (*space, error) {
	schema := spaceName()
	own := withOption(u, "schema", schema)
	open := func(ctx context.Context) (persist.Store, error) {
		return persist.Open(ctx, own, postgres.Driver{})
	}
	plain := without(u, append(persist.LimitOptions(), "schema", "lanes", "listen", "max_conns", "migrate")...)
	pool, err := pgxpool.New(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("%w: postgres URL cannot be read", persist.ErrInvalid)
	}
	remove := func(ctx context.Context) error {
		defer pool.Close()
		ctx, cancel := context.WithTimeout(ctx, removeTimeout)
		defer cancel()
		_, err := pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE")
		if err != nil {
			return fmt.Errorf("schema %s is left behind: %w", schema, err)
		}
		return nil
	}
	if err := tryOpen(ctx, open); err != nil {
		pool.Close()
		return nil, err
	}
	rows, err := effects.OpenPostgres(ctx, pool, schema)
	if err != nil {
		return nil, errors.Join(err, remove(context.WithoutCancel(ctx)))
	}
	insert := rows.Insert()
	return &space{
		effects: rows, open: open, remove: remove,
		inTx: func(replica string) autopaho.TxHandler {
			return autopaho.InTx(func(ctx context.Context, tx pgx.Tx, m *autopaho.Received) error {
				_, err := tx.Exec(ctx, insert, m.ID, replica)
				return err
			})
		},
	}, nil
}

// removeTimeout bounds how long it may take to delete a space.
const removeTimeout = 10 * time.Second

// redisSpace is a prefix of its own.
func redisSpace(ctx context.Context, u *url.URL, folder string) (*space, error) {
	prefix := spaceName()
	own := withOption(u, "prefix", prefix)
	open := func(ctx context.Context) (persist.Store, error) {
		return persist.Open(ctx, own, redis.Driver{})
	}
	if err := tryOpen(ctx, open); err != nil {
		return nil, err
	}
	options, err := goredis.ParseURL(without(u, append(persist.LimitOptions(),
		"prefix", "lanes", "allow_eviction", "allow_volatile", "wait_replicas", "wait_timeout")...))
	if err != nil {
		return nil, fmt.Errorf("%w: redis URL cannot be read", persist.ErrInvalid)
	}
	options.ContextTimeoutEnabled = true
	remove := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, removeTimeout)
		defer cancel()
		if err := unlink(ctx, options, prefix); err != nil {
			return fmt.Errorf("keys with the prefix %s are left behind: %w", prefix, err)
		}
		return nil
	}
	rows, err := inFile(ctx, folder)
	if err != nil {
		return nil, errors.Join(err, remove(context.WithoutCancel(ctx)))
	}
	return &space{effects: rows, open: open, remove: remove}, nil
}

// unlink deletes all keys of a prefix.
func unlink(ctx context.Context, options *goredis.Options, prefix string) (err error) {
	client := goredis.NewClient(options)
	defer func() { err = errors.Join(err, client.Close()) }()
	const page = 1000
	keys := client.Scan(ctx, 0, "{"+prefix+"}:*", page).Iterator()
	for keys.Next(ctx) {
		if err := client.Unlink(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

// memorySpace is a store in memory, which the clients share.
func memorySpace(ctx context.Context, u *url.URL, folder string) (*space, error) {
	store, err := persist.Open(ctx, u.String(), memory.Driver{})
	if err != nil {
		return nil, err
	}
	rows, err := inFile(ctx, folder)
	if err != nil {
		return nil, err
	}
	return &space{
		effects: rows,
		open:    func(context.Context) (persist.Store, error) { return shared{store}, nil },
		remove:  store.Close,
	}, nil
}

// shared is a store that outlives its users.
type shared struct{ persist.Store }

// Close leaves the store open.
func (shared) Close(context.Context) error { return nil }

// tryOpen opens a store once, which makes it.
func tryOpen(ctx context.Context, open func(context.Context) (persist.Store, error)) error {
	store, err := open(ctx)
	if err != nil {
		return err
	}
	return store.Close(ctx)
}

// withOption is a URL with another value of an option.
func withOption(u *url.URL, name, value string) string {
	own := *u
	values := own.Query()
	values.Set(name, value)
	own.RawQuery = values.Encode()
	return own.String()
}

// without is a URL without some options.
func without(u *url.URL, names ...string) string {
	plain := *u
	values := plain.Query()
	for _, name := range names {
		values.Del(name)
	}
	plain.RawQuery = values.Encode()
	return plain.String()
}
