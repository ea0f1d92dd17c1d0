package effects

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Postgres is the table in a schema of a PostgreSQL database.
type Postgres struct {
	pool  *pgxpool.Pool
	table string
}

// OpenPostgres makes the table in a schema, which is there. The pool stays the
// caller's.
func OpenPostgres(ctx context.Context, pool *pgxpool.Pool, schema string) (*Postgres, error) {
	e := &Postgres{pool, pgx.Identifier{schema, "effects"}.Sanitize()}
	_, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+e.table+
		" (number bigint GENERATED ALWAYS AS IDENTITY, message_id text NOT NULL, replica text NOT NULL)")
	if err != nil {
		return nil, fmt.Errorf("create effects: %w", err)
	}
	return e, nil
}

// Insert is what a handler does in a transaction of the database, with the message
// ID and the replica.
func (e *Postgres) Insert() string {
	return "INSERT INTO " + e.table + " (message_id, replica) VALUES ($1, $2)"
}

// Add writes an effect in a transaction of its own.
func (e *Postgres) Add(ctx context.Context, messageID, replica string) error {
	_, err := e.pool.Exec(ctx, e.Insert(), messageID, replica)
	return err
}

// IDs are the message IDs of all effects, in the order of the effects.
func (e *Postgres) IDs(ctx context.Context) ([]string, error) {
	rows, err := e.pool.Query(ctx, "SELECT message_id FROM "+e.table+" ORDER BY number")
	if err != nil {
		return nil, fmt.Errorf("read effects: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read effects: %w", err)
	}
	return ids, nil
}

// Count is the number of effects.
func (e *Postgres) Count(ctx context.Context) (n int, err error) {
	if err := e.pool.QueryRow(ctx, "SELECT count(*) FROM "+e.table).Scan(&n); err != nil {
		return 0, fmt.Errorf("count effects: %w", err)
	}
	return n, nil
}

// Close does nothing: the pool is the caller's.
func (e *Postgres) Close() error { return nil }
