package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the driver of database/sql

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/history"
	"github.com/oncemq/oncemq/persist"
)

// order is what the observer tells a producer to store, a line of its standard
// input. It is answered by a line: the number, and ok, fail or info.
type order struct {
	Number int
	// Mode is plain (Enqueue), tx (in a transaction of the producer), rollback
	// (the same, and it is rolled back), or held (two transactions, of which the
	// first to enqueue is the last to commit).
	Mode    string
	Values  []history.Value
	Receipt bool
}

// orderTimeout bounds one order.
const orderTimeout = 5 * time.Second

// producer stores messages.
type producer struct {
	client *autopaho.Client
	store  persist.Store
	db     *sql.DB       // the store's, if it is SQLite
	pool   *pgxpool.Pool // the store's, if it is PostgreSQL
}

func produce(ctx context.Context, o *observer, s *settings, cfg autopaho.Config) error {
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return err
	}
	p := &producer{client: client, store: cfg.Store}
	switch scheme, rest, _ := strings.Cut(s.Store, ":"); scheme {
	case "sqlite":
		path, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
		p.db, err = sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(3000)&_pragma=synchronous(FULL)")
	case "postgres":
		var u *url.URL
		if u, err = url.Parse(s.Store); err == nil {
			query := u.Query()
			query.Del("lanes") // the store's own
			u.RawQuery = query.Encode()
			p.pool, err = pgxpool.New(ctx, u.String())
		}
	}
	if err != nil {
		return err
	}
	o.tell("ready")
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	for {
		select {
		case <-ctx.Done():
		case line, more := <-lines:
			if more {
				if err := p.answer(ctx, o, line); err != nil {
					return err
				}
				continue
			}
		}
		break
	}
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if p.pool != nil {
		p.pool.Close()
	}
	return client.Close(end)
}

func (p *producer) answer(ctx context.Context, o *observer, line string) error {
	var ord order
	if err := json.Unmarshal([]byte(line), &ord); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	err := p.do(ctx, &ord)
	switch {
	case err == nil:
		o.tell(ord.Number, "ok")
	case errors.Is(err, persist.ErrUnknownOutcome):
		o.tell(ord.Number, "info", strings.ReplaceAll(err.Error(), "\n", " "))
	default:
		// [OUTBOX-3]: none of the messages is stored, and nobody ever sees one.
		o.tell(ord.Number, "fail", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

func messages(values []history.Value, receipt bool) []autopaho.Message {
	msgs := make([]autopaho.Message, len(values))
	for i, v := range values {
		qos := byte(1)
		if v.Key%3 == 0 {
			qos = 2
		}
		msgs[i] = autopaho.Message{
			ID: v.ID(), Topic: fmt.Sprintf("chaos/%d/%d", v.Producer, v.Key), QoS: qos, Receipt: receipt,
			Payload: []byte(v.ID()),
		}
	}
	return msgs
}

// errRolledBack is the answer to an order that says so.
var errRolledBack = errors.New("rolled back, as told")

func (p *producer) do(ctx context.Context, ord *order) error {
	msgs := messages(ord.Values, ord.Receipt)
	switch {
	case ord.Mode == "plain" || p.db == nil && p.pool == nil:
		_, err := p.client.Enqueue(ctx, msgs...)
		return err
	case p.db != nil:
		return p.inSQLite(ctx, msgs, ord.Mode == "rollback")
	case ord.Mode == "held":
		return p.held(ctx, msgs)
	default:
		return p.inPostgres(ctx, msgs, ord.Mode == "rollback")
	}
}

func (p *producer) inSQLite(ctx context.Context, msgs []autopaho.Message, rollback bool) error {
	joiner, ok := p.store.(persist.TxJoiner[*sql.Tx])
	if !ok {
		return errors.New("the store has no transactions")
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := p.client.EnqueueTx(ctx, joiner.WithTx(tx), msgs...); err != nil || rollback {
		_ = tx.Rollback() // it goes with the connection
		return errors.Join(err, errRolledBack)
	}
	return committed(tx.Commit())
}

// committed is the outcome of a commit: after an error of it nobody knows.
func committed(err error) error {
	if err != nil {
		return fmt.Errorf("commit: %w: %w", persist.ErrUnknownOutcome, err)
	}
	return nil
}

func (p *producer) inPostgres(ctx context.Context, msgs []autopaho.Message, rollback bool) error {
	tx, err := p.begin(ctx, msgs)
	if err != nil {
		return err
	}
	if rollback {
		_ = tx.Rollback(ctx) // it goes with the connection
		return errRolledBack
	}
	return committed(tx.Commit(ctx))
}

// begin is a transaction with messages in it. After an error it is rolled back.
func (p *producer) begin(ctx context.Context, msgs []autopaho.Message) (pgx.Tx, error) {
	joiner, ok := p.store.(persist.TxJoiner[pgx.Tx])
	if !ok {
		return nil, errors.New("the store has no transactions")
	}
	tx, err := p.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := p.client.EnqueueTx(ctx, joiner.WithTx(tx), msgs...); err != nil {
		_ = tx.Rollback(ctx) // it goes with the connection
		return nil, err
	}
	return tx, nil
}

// held stores the first half in a transaction that commits after the one of the
// second half: what has the lower positions becomes visible last. The halves have
// no key in common.
func (p *producer) held(ctx context.Context, msgs []autopaho.Message) error {
	half := len(msgs) / 2
	first, err := p.begin(ctx, msgs[:half])
	if err != nil {
		return err
	}
	second, err := p.begin(ctx, msgs[half:])
	if err != nil {
		_ = first.Rollback(ctx) // it goes with the connection
		return err
	}
	if err := committed(second.Commit(ctx)); err != nil {
		_ = first.Rollback(ctx) // it goes with the connection
		return err
	}
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
	// The second half is there: of both together nobody could say that they are not.
	return committed(first.Commit(ctx))
}
