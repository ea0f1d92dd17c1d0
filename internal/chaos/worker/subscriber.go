package main

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/internal/history"
	"github.com/oncemq/oncemq/persist"
)

// The effect of a message in the store's database, in the transaction of its mark:
// a row without a unique constraint, which would hide doubles, and an amount that
// moves from one account to another.
const (
	insertEffect = "INSERT INTO effects (msg_id, key, seq, fence, pod) VALUES ($1, $2, $3, $4, $5)"
	moveAmount   = "INSERT INTO accounts (pod, account, balance) VALUES ($1, $2, $3), ($1, $4, $5) " +
		"ON CONFLICT (pod, account) DO UPDATE SET balance = accounts.balance + excluded.balance"
)

// row are the arguments of the two statements.
func (s *settings) row(m *autopaho.Received) (effect, transfer []any, err error) {
	v, err := history.ParseID(m.ID)
	if err != nil {
		return nil, nil, autopaho.Permanent(err)
	}
	from, to, amount := v.Transfer(s.Accounts)
	return []any{m.ID, m.Topic, v.Seq, m.Epoch, s.ID}, []any{s.ID, from, -amount, to, amount}, nil
}

// subscribe subscribes with a handler of the mode.
func subscribe(ctx context.Context, client *autopaho.Client, o *observer, s *settings) error {
	cfg := autopaho.SubscribeConfig{
		Filters: []string{"chaos/#"}, Group: "chaos", QoS: s.QoS, Unshared: s.Unshared, Lease: s.lease(),
		// However long a disk is full, no message shall die of it.
		Attempts: 10_000, Receipts: s.Receipts,
	}
	cfg.Backoff.Initial, cfg.Backoff.Max = 50*time.Millisecond, 500*time.Millisecond
	inSQLite := strings.HasPrefix(s.Store, "sqlite:")
	switch {
	case s.Mode == "leased":
		cfg.Handler = func(ctx context.Context, m *autopaho.Received) error {
			// Deaf to the end of its claim: the worst that a handler can be.
			if err := s.dawdle(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			o.tell("effect", m.ID, strconv.FormatInt(m.Epoch, 10))
			return nil
		}
	case inSQLite && s.Mode == "tx":
		cfg.TxHandler = autopaho.InTx(func(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
			return errors.Join(s.dawdle(ctx), s.inSQLite(ctx, tx, m))
		})
	case inSQLite:
		cfg.TxHandler = autopaho.BatchInTx(func(ctx context.Context, tx *sql.Tx, msgs []*autopaho.Received) error {
			err := s.dawdle(ctx)
			for _, m := range msgs {
				err = errors.Join(err, s.inSQLite(ctx, tx, m))
			}
			return err
		})
	case s.Mode == "tx":
		cfg.TxHandler = autopaho.InTx(func(ctx context.Context, tx pgx.Tx, m *autopaho.Received) error {
			return errors.Join(s.dawdle(ctx), s.inPostgres(ctx, tx, []*autopaho.Received{m}))
		})
	default:
		cfg.TxHandler = autopaho.BatchInTx(func(ctx context.Context, tx pgx.Tx, msgs []*autopaho.Received) error {
			return errors.Join(s.dawdle(ctx), s.inPostgres(ctx, tx, msgs))
		})
	}
	_, err := client.Subscribe(ctx, cfg)
	return err
}

// dawdle is the work of a handler before its effect.
func (s *settings) dawdle(ctx context.Context) error {
	failpoint.Hit(failpoint.HandlerMiddle)
	if s.HandlerMS == 0 {
		return nil
	}
	timer := time.NewTimer(time.Duration(s.HandlerMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *settings) inSQLite(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
	effect, transfer, err := s.row(m)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, insertEffect, effect...); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, moveAmount, transfer...)
	return err
}

func (s *settings) inPostgres(ctx context.Context, tx pgx.Tx, msgs []*autopaho.Received) error {
	var b pgx.Batch
	for _, m := range msgs {
		effect, transfer, err := s.row(m)
		if err != nil {
			return err
		}
		b.Queue(insertEffect, effect...)
		b.Queue(moveAmount, transfer...)
	}
	return tx.SendBatch(ctx, &b).Close()
}

// recorded is a store that tells the observer who was granted a key, and who has
// completed it.
type recorded struct {
	persist.Store
	o *observer
}

// Claim tells of the keys that were granted.
func (r *recorded) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	claims, err := r.Store.Claim(ctx, req)
	for _, c := range claims {
		if err == nil && c.State == persist.ClaimGranted {
			r.o.tell("claim", c.Key, c.Epoch)
		}
	}
	return claims, err
}

// Complete tells of the keys that were completed.
func (r *recorded) Complete(
	ctx context.Context, group string, completions []persist.Completion, window time.Duration,
) ([]bool, error) {
	// What the store keeps of them after the call is its own.
	claims := make([]persist.Claim, len(completions))
	for i := range completions {
		claims[i] = completions[i].Claim
	}
	done, err := r.Store.Complete(ctx, group, completions, window)
	for i := range done {
		if err == nil && done[i] {
			r.o.tell("mark", claims[i].Key, claims[i].Epoch)
		}
	}
	return done, err
}
