package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/oncemq/oncemq/persist"
)

// What a connection of ours is set to. The log is checkpointed when it has
// walPages pages of 4 KiB; messages that come and go before that are never
// written into the database itself. cacheKiB bounds a connection's memory.
const (
	walPages = 2000
	cacheKiB = 4096
)

// Open opens the store in a file, and creates it if need be: the file with mode
// 0600, its directories with 0700.
//
// The error wraps [persist.ErrInvalid] for options that cannot be, or another
// number of lanes than the store has; [persist.ErrReadOnly],
// [persist.ErrStoreFull], [persist.ErrCorrupt] or [persist.ErrSchema] for a file
// that cannot be used; and [persist.ErrUnavailable] for one that cannot be
// reached, or is locked for longer than the busy time-out.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	const op = "open"
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, &persist.Error{Op: op, Object: path, Kind: persist.ErrInvalid, Err: err}
	}
	if path == "" || path == ":memory:" {
		return nil, &persist.Error{Op: op, Object: path, Kind: persist.ErrInvalid, Err: errors.New("a file is needed")}
	}
	if err := prepareFile(path); err != nil {
		return nil, &persist.Error{Op: op, Object: path, Kind: fileKind(err), Err: err}
	}
	db, err := sql.Open("sqlite", dsn(path, opts))
	if err != nil {
		return nil, translate(op, path, err)
	}
	db.SetMaxIdleConns(1)
	s := &Store{db: db, owned: true, name: path}
	if err := s.open(ctx, opts); err != nil {
		return nil, both(translate(op, path, err), db.Close())
	}
	return s, nil
}

// New opens the store in a database of the caller, whose pool stays open when
// the store is closed. Its driver must be modernc.org/sqlite, it must be a file,
// and should be in WAL mode: otherwise a reader of the caller's stops the store
// from writing. The store takes up to three connections out of the pool, so that
// a limit of the pool must leave room for at least five.
//
// Errors are those of [Open].
func New(ctx context.Context, db *sql.DB, opts Options) (*Store, error) {
	const op = "open"
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, &persist.Error{Op: op, Kind: persist.ErrInvalid, Err: err}
	}
	if n := db.Stats().MaxOpenConnections; n > 0 && n < minOpenConns {
		return nil, &persist.Error{
			Op: op, Kind: persist.ErrInvalid,
			Err: fmt.Errorf("the pool has %d connections at most, the store needs %d", n, minOpenConns),
		}
	}
	s := &Store{db: db}
	if err := s.open(ctx, opts); err != nil {
		return nil, translate(op, "", err)
	}
	return s, nil
}

// minOpenConns is the least that a limit of the caller's pool may be: writer,
// reader, ProcessTx, one for listings, and one for the caller.
const minOpenConns = 5

// open makes the tables and takes the connections.
func (s *Store) open(ctx context.Context, opts Options) (err error) {
	s.opts = opts
	s.log = opts.Logger
	s.gate = make(gate, 1)
	s.drained = make(chan struct{})
	if s.q, err = loadQueries(opts.Prefix); err != nil {
		return err
	}
	writer, err := holdConn(ctx, s, func(c *conn) error {
		if s.owned {
			if err := s.walMode(ctx, c); err != nil {
				return err
			}
		}
		return s.migrate(ctx, c)
	})
	if err != nil {
		return err
	}
	s.reader.held, err = holdConn(ctx, s, func(c *conn) error {
		if err := c.pragma(ctx, "PRAGMA query_only = 1"); err != nil {
			return err
		}
		// A database in memory is another one for each connection.
		identity, err := getMeta(ctx, c, s.q, metaIdentity)
		if err == nil && asText(identity) != s.identity || isMissing(err) {
			return fmt.Errorf("%w: the connections of the pool do not share one database", persist.ErrInvalid)
		}
		return err
	})
	if err != nil {
		writer.discard()
		return err
	}
	s.writer = startWriter(s, writer)
	return nil
}

// walMode turns on the write-ahead log, unless it is on. SQLite does not wait
// for the lock that this takes, so we do: several processes may open a new file
// at once.
func (s *Store) walMode(ctx context.Context, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.BusyTimeout)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var mode [1]driver.Value
		_, err := queryRow(context.WithoutCancel(ctx), c, mode[:], s.q.walMode)
		if err == nil && asText(mode[0]) != "wal" {
			return fmt.Errorf("%w: the file system cannot hold a write-ahead log", persist.ErrUnavailable)
		}
		if err == nil || !isBusy(err) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// prepareFile creates the file, so that it and the files that SQLite puts beside
// it are the owner's alone. It follows no symbolic link: where links can be
// planted, another's file would be written.
func prepareFile(path string) error {
	if info, err := os.Lstat(path); err == nil { //nolint:gosec // the path is the caller's to choose, here and below
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%w: not a regular file", persist.ErrInvalid)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil { //nolint:gosec // see above
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // see above
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// fileKind is the sentinel of an error of the file system.
func fileKind(err error) error {
	switch {
	case isKind(err):
		return nil
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return persist.ErrReadOnly
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return persist.ErrStoreFull
	}
	return persist.ErrUnavailable
}

// dsn is the data source name of a file for our own pool. Pragmas in it are run
// on every connection.
func dsn(path string, opts Options) string {
	pragmas := url.Values{"_txlock": {"immediate"}}
	for _, p := range []string{
		fmt.Sprintf("busy_timeout(%d)", opts.BusyTimeout.Milliseconds()),
		"synchronous(" + opts.Synchronous.pragma() + ")",
		fmt.Sprintf("wal_autocheckpoint(%d)", walPages),
		fmt.Sprintf("cache_size(-%d)", cacheKiB),
	} {
		pragmas.Add("_pragma", p)
	}
	// SQLite decodes the path of a URI; a "?" or "%" in a name must be encoded.
	escaped := (&url.URL{Path: path}).EscapedPath()
	if strings.HasPrefix(escaped, "//") {
		escaped = "//" + escaped // else the first part would be a host
	}
	return "file:" + escaped + "?" + pragmas.Encode()
}

// pragma is the setting in SQL.
func (s Synchronous) pragma() string {
	if s == SynchronousNormal {
		return "NORMAL"
	}
	return "FULL"
}
