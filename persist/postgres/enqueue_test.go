package postgres

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

func onceMessages(ids ...string) []persist.Message {
	msgs := make([]persist.Message, len(ids))
	for i, id := range ids {
		msgs[i] = plainMessage(id)
		msgs[i].Idempotent = true
	}
	return msgs
}

// awaitLock waits until as many sessions wait for a lock.
func awaitLock(t *testing.T, pg *testenv.PostgresServer, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return pg.Exec("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == fmt.Sprint(n)
	}, 10*time.Second, time.Millisecond)
}

// A caller repeats an idempotent message and leaves its transaction open. The lane
// goes on: the message is settled and the lease renewed meanwhile.
func TestDuplicateHoldsNothing(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{NoListen: true}), openPool(t, url)
	msgs := onceMessages("x")
	places, err := s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	l := acquire(t, s)
	require.Equal(t, []string{"x"}, next(t, l))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	again, err := s.WithTx(tx).Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	require.Equal(t, []persist.Enqueued{{Ref: places[0].Ref, Duplicate: true}}, again)
	soon, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, l.Settle(soon, []persist.Settlement{{Position: places[0].Position, Outcome: persist.OutcomeDelivered}}))
	require.NoError(t, l.Renew(soon, time.Minute, true))
	require.NoError(t, tx.Commit(t.Context()))
	require.Empty(t, ids(t, s))
}

// Two callers add the same new messages in opposite orders. Neither waits for the
// other in a circle, each message is there once, and those that one call added have
// positions in its order.
func TestSameMessagesInOppositeOrders(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, pg.URL(), Options{NoListen: true})
	for round := range 10 {
		var names []string
		for i := range 300 {
			names = append(names, fmt.Sprintf("%d of round %d", i*7919%300, round))
		}
		backwards := slices.Clone(names)
		slices.Reverse(backwards)
		type answer struct {
			places []persist.Enqueued
			err    error
		}
		answers := make(chan answer, 2)
		for _, order := range [][]string{names, backwards} {
			go func() {
				places, err := s.Enqueue(t.Context(), onceMessages(order...))
				answers <- answer{places, err}
			}()
		}
		added := 0
		for range 2 {
			a := <-answers
			require.NoError(t, a.err)
			last := int64(0)
			for _, place := range a.places {
				if !place.Duplicate {
					require.Greater(t, place.Position, last)
					last = place.Position
					added++
				}
			}
		}
		require.Equal(t, len(names), added)
	}
	require.Len(t, ids(t, s), 3000)
	require.Equal(t, "0", pg.Exec("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))
}

// A caller's transaction has added some IDs. Who adds them too waits for its end:
// after the commit they are duplicates of what it added, after a rollback they are
// new, and the others of the call are stored in their order either way.
func TestRivalTransaction(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprintf("commits=%v", commits), func(t *testing.T) {
			t.Parallel()
			pg := testenv.SharedPostgres(t)
			s, pool := openStore(t, pg.URL(), Options{NoListen: true}), openPool(t, pg.URL())
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			first, err := s.WithTx(tx).Enqueue(t.Context(), onceMessages("m", "b"))
			require.NoError(t, err)
			var places []persist.Enqueued
			done := make(chan error, 1)
			go func() {
				var err error
				places, err = s.Enqueue(t.Context(), onceMessages("z", "m", "z", "b", "a"))
				done <- err
			}()
			awaitLock(t, pg, 1)
			if commits {
				require.NoError(t, tx.Commit(t.Context()))
			} else {
				require.NoError(t, tx.Rollback(t.Context()))
			}
			require.NoError(t, <-done)
			var duplicate []bool
			for _, place := range places {
				duplicate = append(duplicate, place.Duplicate)
			}
			require.Equal(t, []bool{false, commits, true, commits, false}, duplicate)
			require.Equal(t, places[0].Ref, places[2].Ref)
			require.Greater(t, places[4].Position, places[0].Position)
			order := []string{"z", "m", "b", "a"}
			if commits {
				require.Equal(t, []persist.Ref{first[0].Ref, first[1].Ref}, []persist.Ref{places[1].Ref, places[3].Ref})
				order = []string{"m", "b", "z", "a"}
			}
			require.Equal(t, order, next(t, acquire(t, s)))
			stats, err := s.Stats(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 4, stats.Pending)
		})
	}
}

// The message that took an ID is settled between the statement that lost the ID to
// it and the one that looks for it. The call is begun anew, and nothing of the first
// attempt is left.
func TestRivalIsSettledAtOnce(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s, pool := openStore(t, pg.URL(), Options{NoListen: true}), openPool(t, pg.URL())
	// The first time, the row disappears at the end of the first of the two. With the
	// attempt that is undone too.
	pg.Exec("CREATE SEQUENCE oncemq.attempts")
	pg.Exec("CREATE FUNCTION oncemq.settle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN" +
		" IF nextval('oncemq.attempts') = 1 THEN DELETE FROM oncemq.outbox WHERE id = 'x'; END IF; RETURN NULL; END $$")
	pg.Exec("CREATE TRIGGER settle AFTER INSERT ON oncemq.arrivals FOR EACH STATEMENT" +
		" WHEN (current_setting('application_name') = 'oncemq') EXECUTE FUNCTION oncemq.settle()")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SET LOCAL application_name = 'caller'")
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), onceMessages("x"))
	require.NoError(t, err)
	var places []persist.Enqueued
	done := make(chan error, 1)
	go func() {
		var err error
		places, err = s.Enqueue(t.Context(), onceMessages("w", "x", "y"))
		done <- err
	}()
	awaitLock(t, pg, 1)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-done)
	require.Equal(t, []bool{false, true, false}, []bool{places[0].Duplicate, places[1].Duplicate, places[2].Duplicate})
	require.Equal(t, []string{"x", "w", "y"}, next(t, acquire(t, s)))
	require.Equal(t, "2", pg.Exec("SELECT last_value FROM oncemq.attempts"))
}
