package demo

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// effects is the table that the replicas' handlers write to. No constraint
// keeps a message from having two rows: that is what the demo is about.
type effects struct{ db *sql.DB }

const createEffects = `CREATE TABLE IF NOT EXISTS effects (
	number INTEGER PRIMARY KEY,
	message_id TEXT NOT NULL,
	replica TEXT NOT NULL
)`

// insertEffect is what a handler does.
const insertEffect = `INSERT INTO effects (message_id, replica) VALUES (?, ?)`

// openEffects opens the table in a database file, and creates both if need be.
func openEffects(ctx context.Context, file string) (*effects, error) {
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
	return &effects{db}, nil
}

func (e *effects) close() error { return e.db.Close() }

// add writes an effect in a transaction of its own.
func (e *effects) add(ctx context.Context, messageID, replica string) error {
	_, err := e.db.ExecContext(ctx, insertEffect, messageID, replica)
	return err
}

// count is the number of effects.
func (e *effects) count(ctx context.Context) (n int, err error) {
	err = e.db.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count effects: %w", err)
	}
	return n, nil
}

// ids are the message IDs of all effects, in the order of the effects.
func (e *effects) ids(ctx context.Context) ([]string, error) {
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

// any tells whether one of the messages has an effect.
func (e *effects) any(ctx context.Context, ids []string) (bool, error) {
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

// tally is the verdict on the effects.
type tally struct {
	effects int // rows
	lost    int // enqueued messages without a row
	doubled int // rows beyond the first of an enqueued message
	unknown int // rows of a message that nobody enqueued
}

// judge compares what was enqueued with what had an effect.
func judge(enqueued, effects []string) tally {
	t := tally{effects: len(effects)}
	rows := make(map[string]int, len(enqueued))
	for _, id := range enqueued {
		rows[id] = 0
	}
	for _, id := range effects {
		n, known := rows[id]
		switch {
		case !known:
			t.unknown++
			continue
		case n > 0:
			t.doubled++
		}
		rows[id] = n + 1
	}
	for _, n := range rows {
		if n == 0 {
			t.lost++
		}
	}
	return t
}

// files of the demo in its folder.
func outboxFile(folder string) string   { return filepath.Join(folder, "outbox.db") }
func replicasFile(folder string) string { return filepath.Join(folder, "replicas.db") }
