package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// claimBehind claims the key "k" while another transaction has it, ends that
// transaction once the claim waits for it, and returns the answer.
func claimBehind(t *testing.T, pg *testenv.PostgresServer, s *Store, end func()) persist.Claim {
	t.Helper()
	type answer struct {
		claims []persist.Claim
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "second", TTL: time.Hour, Keys: []string{"k"}})
		answers <- answer{claims, err}
	}()
	require.Eventually(t, func() bool {
		return pg.Exec("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
	}, 10*time.Second, time.Millisecond, "the claim waits")
	end()
	a := <-answers
	require.NoError(t, a.err)
	return a.claims[0]
}

// A late completion, of a claim whose lease has ended, commits between another
// replica's look at the completed keys and its insertion of a claim: the key is not
// handed out again.
func TestClaimDuringCompletion(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s, pool := openStore(t, pg.URL(), Options{}), openPool(t, pg.URL())
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "first", TTL: time.Millisecond, Keys: []string{"k"}})
	require.NoError(t, err)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = pgxRunner{tx}.run(t.Context(), []step{{stmt: s.q.complete, args: []any{
		storedKey("g"), [][]byte{storedKey("k")}, []int64{claims[0].Epoch}, time.Hour.Milliseconds(), int64(1),
	}}})
	require.NoError(t, err)
	got := claimBehind(t, pg, s, func() { require.NoError(t, tx.Commit(t.Context())) })
	require.Equal(t, persist.ClaimCompleted, got.State)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Completed)
	require.Zero(t, stats.InWork, "the claim was given back")
}

// A replica without transactions comes to a key that a transaction has begun: it
// waits for the end, and the key is a duplicate if that was a commit.
func TestClaimDuringProcessTx(t *testing.T) {
	t.Parallel()
	for name, result := range map[string]error{"commit": nil, "rollback": errors.New("failed")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg := testenv.SharedPostgres(t)
			s := openStore(t, pg.URL(), Options{})
			begun, finish, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				ended <- s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
					// Within a step, so that its rows are those of a subtransaction.
					err := p.Step(ctx, func() error {
						claims, err := p.Begin(ctx, "g", []string{"k"}, time.Hour)
						if err == nil && claims[0].State != persist.ClaimGranted {
							err = errors.New("not granted")
						}
						return err
					})
					close(begun)
					<-finish
					return errors.Join(err, result)
				})
			}()
			<-begun
			got := claimBehind(t, pg, s, func() {
				close(finish)
				require.ErrorIs(t, <-ended, result)
			})
			want := persist.ClaimGranted
			if result == nil {
				want = persist.ClaimCompleted
			}
			require.Equal(t, want, got.State)
		})
	}
}

// A claimed key that has a mark all the same is marked again.
func TestCompleteOverAMark(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, pg.URL(), Options{})
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Hour, Keys: []string{"a", "b"}})
	require.NoError(t, err)
	pg.Exec(fmt.Sprintf(`INSERT INTO oncemq.processed (epoch, until, group_id, key) SELECT 0, 1, id, '\x%x' FROM oncemq.groups`, storedKey("a")))
	done, err := s.Complete(t.Context(), "g", []persist.Completion{{Claim: claims[0]}, {Claim: claims[1]}}, time.Hour)
	require.NoError(t, err)
	require.Equal(t, []bool{true, true}, done)
	claims, err = s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Hour, Keys: []string{"a", "b"}})
	require.NoError(t, err)
	for _, c := range claims {
		require.Equal(t, persist.ClaimCompleted, c.State)
	}
}
