package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
)

// order is what a customer asks for.
type order struct {
	ID       int64  `json:"id"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
}

// service is the web handler, with its database, outbox and MQTT client.
type service struct {
	http.Handler
	pool   *pgxpool.Pool
	store  *postgres.Store
	client *autopaho.Client
}

func newService(ctx context.Context, database, broker string) (s *service, err error) {
	s = new(service)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	if s.pool, err = pgxpool.New(ctx, database); err != nil {
		return nil, err
	}
	if _, err := s.pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS orders (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		item text NOT NULL CHECK (item <> ''),
		quantity int NOT NULL CHECK (quantity > 0))`); err != nil {
		return nil, err
	}
	// The outbox has a schema of its own in the same database.
	if s.store, err = postgres.New(ctx, s.pool, postgres.Options{}); err != nil {
		return nil, err
	}
	if s.client, err = autopaho.New(ctx, autopaho.Config{Servers: []string{broker}, Store: s.store}); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.postOrder)
	s.Handler = mux
	return s, nil
}

func (s *service) postOrder(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.place(r.Context(), &o); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(o) // the customer may be gone; the order stands
}

// place stores an order and its announcement, both or neither.
func (s *service) place(ctx context.Context, o *order) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "INSERT INTO orders (item, quantity) VALUES ($1, $2) RETURNING id", o.Item, o.Quantity).Scan(&o.ID)
		if err != nil {
			return err
		}
		payload, err := json.Marshal(o)
		if err != nil {
			return err
		}
		_, err = s.client.EnqueueTx(ctx, s.store.WithTx(tx), autopaho.Message{
			Topic: "orders/created", Payload: payload,
			Properties: persist.Properties{ContentType: "application/json"},
		})
		return err
	})
	return err
}

// close ends what newService has begun, as far as it came.
func (s *service) close(ctx context.Context) error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close(ctx))
	}
	if s.store != nil {
		errs = append(errs, s.store.Close(ctx))
	}
	if s.pool != nil {
		s.pool.Close()
	}
	return errors.Join(errs...)
}
