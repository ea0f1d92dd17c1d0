package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// Orders that the database takes are announced, each once; those that it
// refuses, after their message was enqueued or before, are not.
func TestOrdersAreAnnouncedIfTheyAreStored(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pg := testenv.SharedPostgres(t).NewDatabase()
	broker, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	s, err := newService(ctx, pg.URL(), broker.URL())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close(context.Background())) }()
	// Refused at the commit, when the message is in the transaction already.
	pg.Exec(`CREATE FUNCTION no_anvils() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.item = 'anvil' THEN RAISE 'no anvils'; END IF; RETURN NEW; END $$;
		CREATE CONSTRAINT TRIGGER no_anvils AFTER INSERT ON orders
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_anvils()`)

	placed := make(map[int64]string)
	for i := range 60 {
		item, status := fmt.Sprintf("lamp %d", i), http.StatusCreated
		switch i % 3 {
		case 1:
			item, status = "anvil", http.StatusUnprocessableEntity
		case 2:
			item, status = "", http.StatusUnprocessableEntity
		}
		body, err := json.Marshal(order{Item: item, Quantity: 1})
		require.NoError(t, err)
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodPost, "/orders", strings.NewReader(string(body))))
		require.Equal(t, status, answer.Code, answer.Body)
		if status == http.StatusCreated {
			var o order
			require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &o))
			placed[o.ID] = item
		}
	}
	require.Len(t, placed, 20)

	announced := func() map[int64]string {
		got := make(map[int64]string)
		for _, a := range broker.FirstArrivals("orders/created") {
			var o order
			require.NoError(t, json.Unmarshal(a.Packet.Payload, &o))
			got[o.ID] = o.Item
		}
		return got
	}
	require.Eventually(t, func() bool { return len(announced()) >= len(placed) }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, placed, announced())
	require.Eventually(t, func() bool {
		stats, err := s.store.Stats(ctx)
		return err == nil && stats.Pending == 0
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, placed, announced(), "a ghost")
}
