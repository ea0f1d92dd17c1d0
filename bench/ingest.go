package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncemq/oncemq/autopaho"
)

// ingesters write telemetry into a table, each reading once, beside a consumer
// that does nothing with it.
func (b *bench) ingesters() []contender {
	return []contender{
		{plainConsumer, 50_000, consumeAutopaho},
		{"oncemq postgres ingest", 50_000, b.ingest},
	}
}

// ingest counts until the rows and the marks of all messages are committed.
func (b *bench) ingest(ctx context.Context, o options, n int) (time.Duration, error) {
	p, err := b.stores.open(ctx, "postgres")
	if err != nil {
		return 0, err
	}
	defer p.remove()
	store := p.store
	url, err := b.stores.postgresURL(ctx)
	if err != nil {
		return 0, err
	}
	table := "readings_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := execSQL(ctx, url, "CREATE TABLE "+table+" (id text, topic text, at timestamptz, payload bytea)"); err != nil {
		return 0, err
	}
	defer func() { _ = execSQL(context.Background(), url, "DROP TABLE "+table) }()
	took, err := consumeWith(ctx, store, o, n, func(cfg *autopaho.SubscribeConfig) {
		cfg.TxHandler = autopaho.BatchInTx(func(ctx context.Context, tx pgx.Tx, msgs []*autopaho.Received) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "topic", "at", "payload"},
				pgx.CopyFromSlice(len(msgs), func(i int) ([]any, error) {
					return []any{msgs[i].ID, msgs[i].Topic, msgs[i].At, msgs[i].Payload}, nil
				}))
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	var rows, different int
	if err := pool.QueryRow(ctx, "SELECT count(*), count(DISTINCT id) FROM "+table).Scan(&rows, &different); err != nil {
		return 0, err
	}
	if rows != n || different != n {
		return 0, fmt.Errorf("%d rows of %d messages, for %d", rows, different, n)
	}
	return took, nil
}
