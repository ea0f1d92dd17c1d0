package effects

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// SQLite is the table in a file.
type SQLite struct{ db *sql.DB }

const createEffects = `CREATE TABLE IF NOT EXISTS effects (
	number INTEGER PRIMARY KEY,
	message_id TEXT NOT NULL,
	replica TEXT NOT NULL
)`

// InsertSQLite is what a handler does in a transaction of the file's database, with
// the message ID and the replica.
const InsertSQLite = `INSERT INTO effects (message_id, replica) VALUES (?, ?)`

// OpenSQLite opens the table in a database file, and creates both if need be.
func OpenSQLite(ctx context.Context, file string) (*SQLite, error) {
	// As the store sets it, but for synchronous: commits survive kill -9 in
	// either case, and only the table's own writer, the handler without dedup,
	// would notice the difference.
	options := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)"}}
	name := (&url.URL{Path: filepath.ToSlash(file)}).EscapedPath()
	db, err := sql.Open("sqlite", "file:"+name+"?"+options.Encode())
	if err != nil {
		return nil, fmt.Errorf("open effects: %w", err)
	}
	// One connection: the handlers of a process wait for each other here, and
	// not for SQLite's lock.
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, createEffects); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("create effects: %w", err)
	}
	return &SQLite{db}, nil
}

// Close closes the file.
func (e *SQLite) Close() error { return e.db.Close() }

// Add writes an effect in a transaction of its own.
func (e *SQLite) Add(ctx context.Context, messageID, replica string) error {
	_, err := e.db.ExecContext(ctx, InsertSQLite, messageID, replica)
	return err
}

// Count is the number of effects.
func (e *SQLite) Count(ctx context.Context) (n int, err error) {
	err = e.db.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count effects: %w", err)
	}
	return n, nil
}

// IDs are the message IDs of all effects, in the order of the effects.
func (e *SQLite) IDs(ctx context.Context) ([]string, error) {
	rows, err := e.db.QueryContext(ctx, `SELECT message_id FROM effects ORDER BY number`)
	if err != nil {
		return nil, fmt.Errorf("read effects: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err tells what went wrong
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read effects: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read effects: %w", err)
	}
	return ids, nil
}

// Any tells whether one of the messages has an effect.
func (e *SQLite) Any(ctx context.Context, ids []string) (bool, error) {
	stmt, err := e.db.PrepareContext(ctx, `SELECT EXISTS (SELECT 1 FROM effects WHERE message_id = ?)`)
	if err != nil {
		return false, fmt.Errorf("look for effects: %w", err)
	}
	defer func() { _ = stmt.Close() }() // nothing was written
	for _, id := range ids {
		var found bool
		if err := stmt.QueryRowContext(ctx, id).Scan(&found); err != nil {
			return false, fmt.Errorf("look for effects: %w", err)
		}
		if found {
			return true, nil
		}
	}
	return false, nil
}
