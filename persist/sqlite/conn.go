package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"modernc.org/sqlite"

	"github.com/oncemq/oncemq/persist"
)

// runner runs statements: on a connection of the store, which keeps them
// prepared, or in a transaction of database/sql. Arguments are int64, string,
// []byte or nil.
type runner interface {
	exec(ctx context.Context, stmt *statement, args ...any) (changed int64, err error)
	// query returns rows that must be closed. Next ends with io.EOF.
	query(ctx context.Context, stmt *statement, args ...any) (driver.Rows, error)
}

// txn is an open transaction of the store.
type txn struct {
	runner
	q *queries
	// now is the store's time, the same for all of the transaction, in
	// milliseconds since 1970.
	now  int64
	keys keyCounts
}

// queryRow reads the first row of a result into dest and tells whether there
// was one.
func queryRow(ctx context.Context, r runner, dest []driver.Value, stmt *statement, args ...any) (found bool, err error) {
	rows, err := r.query(ctx, stmt, args...)
	if err != nil {
		return false, err
	}
	// SQLite carries a statement with RETURNING out in full before its first
	// row, so that closing early loses nothing.
	err = rows.Next(dest)
	if errors.Is(err, io.EOF) {
		return false, rows.Close()
	}
	return err == nil, closeRows(rows, err)
}

// closeRows ends a result that was read up to err. After a statement has failed
// Close repeats its error.
func closeRows(rows driver.Rows, err error) error {
	if end := rows.Close(); err == nil {
		return end
	}
	return err
}

// conn is one connection of the driver with the statements it has prepared. It
// goes past database/sql, which would copy every argument twice and lock for
// every statement; one goroutine at a time may use it.
type conn struct {
	dc    driver.Conn
	stmts map[*statement]driver.Stmt
	args  []driver.NamedValue
}

func newConn(driverConn any) (*conn, error) {
	// Only modernc.org/sqlite has these hooks; of another driver we would not
	// know the errors.
	if _, ok := driverConn.(sqlite.HookRegisterer); !ok {
		return nil, fmt.Errorf("%w: the driver must be modernc.org/sqlite", persist.ErrInvalid)
	}
	return &conn{dc: driverConn.(driver.Conn), stmts: make(map[*statement]driver.Stmt)}, nil
}

func (c *conn) prepare(ctx context.Context, stmt *statement) (driver.Stmt, error) {
	if s, ok := c.stmts[stmt]; ok {
		return s, nil
	}
	s, err := c.dc.(driver.ConnPrepareContext).PrepareContext(ctx, stmt.text)
	if err != nil {
		return nil, err
	}
	c.stmts[stmt] = s
	return s, nil
}

func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, arg := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: arg})
	}
	return c.args
}

// release forgets the arguments, which may be large.
func (c *conn) release() { clear(c.args) }

func (c *conn) exec(ctx context.Context, stmt *statement, args ...any) (int64, error) {
	s, err := c.prepare(ctx, stmt)
	if err != nil {
		return 0, err
	}
	res, err := s.(driver.StmtExecContext).ExecContext(ctx, c.bind(args))
	c.release()
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (c *conn) query(ctx context.Context, stmt *statement, args ...any) (driver.Rows, error) {
	s, err := c.prepare(ctx, stmt)
	if err != nil {
		return nil, err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(ctx, c.bind(args))
	c.release()
	return rows, err
}

// pragma runs a statement that cannot be prepared ahead: SQLite carries out
// some pragmas while it parses them.
func (c *conn) pragma(ctx context.Context, text string) error {
	_, err := c.dc.(driver.ExecerContext).ExecContext(ctx, text, nil)
	return err
}

// close finalizes the statements. The connection itself is database/sql's.
func (c *conn) close() error {
	var err error
	for _, s := range c.stmts {
		err = both(err, s.Close())
	}
	clear(c.stmts)
	return err
}

// heldConn is a connection that was taken out of the pool for good.
type heldConn struct {
	db *sql.Conn
	c  *conn
}

// holdConn takes a connection out of the pool and gives it our settings.
func holdConn(ctx context.Context, s *Store, prepare func(c *conn) error) (*heldConn, error) {
	db, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	h := &heldConn{db: db}
	err = db.Raw(func(driverConn any) error {
		if h.c, err = newConn(driverConn); err != nil {
			return err
		}
		for _, setting := range []string{
			fmt.Sprintf("busy_timeout = %d", s.opts.BusyTimeout.Milliseconds()),
			"synchronous = " + s.opts.Synchronous.pragma(),
		} {
			if err := h.c.pragma(ctx, "PRAGMA "+setting); err != nil {
				return err
			}
		}
		return prepare(h.c)
	})
	if err != nil {
		h.discard()
		return nil, err
	}
	return h, nil
}

// use runs fn with the connection locked, which keeps database/sql away from it.
func (h *heldConn) use(fn func(c *conn) error) error {
	return h.db.Raw(func(any) error { return fn(h.c) })
}

// discard closes the connection. It does not go back to the pool, which may be
// the caller's, because its settings are ours.
func (h *heldConn) discard() {
	if h == nil {
		return
	}
	_ = h.db.Raw(func(any) error {
		if h.c != nil {
			_ = h.c.close()
		}
		return driver.ErrBadConn // makes the pool close it
	})
	_ = h.db.Close()
}

// queryer is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type queryer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// sqlRunner runs statements through database/sql.
type sqlRunner struct{ queryer }

func (r sqlRunner) exec(ctx context.Context, stmt *statement, args ...any) (int64, error) {
	res, err := r.ExecContext(ctx, stmt.text, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (r sqlRunner) query(ctx context.Context, stmt *statement, args ...any) (driver.Rows, error) {
	return sqlQuery(r.QueryContext(ctx, stmt.text, args...))
}

// sqlRows is *sql.Rows as the driver's interface.
type sqlRows struct {
	*sql.Rows
	into []any
}

func sqlQuery(rows *sql.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, err
	}
	return &sqlRows{Rows: rows}, nil
}

// Columns is not asked for.
func (r *sqlRows) Columns() []string { return nil }

// Next reads a row into dest.
func (r *sqlRows) Next(dest []driver.Value) error {
	if !r.Rows.Next() {
		if err := r.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	r.into = r.into[:0]
	for i := range dest {
		r.into = append(r.into, (*any)(&dest[i]))
	}
	return r.Scan(r.into...)
}

// Columns of a row, by what STRICT tables allow in them. NULL is zero.
func asInt(v driver.Value) int64 { n, _ := v.(int64); return n }

func asText(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}
