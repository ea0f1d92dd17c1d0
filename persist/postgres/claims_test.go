package postgres

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

func claimKeys(t *testing.T, s *Store, keys ...string) []persist.Claim {
	t.Helper()
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Minute, Keys: keys})
	require.NoError(t, err)
	return claims
}

// beginIn begins keys in a transaction of the store, and runs then before it ends.
func beginIn(t *testing.T, s *Store, keys []string, then func(claims []persist.Claim)) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
		claims, err := p.Begin(ctx, "g", keys, time.Hour)
		if err == nil {
			then(claims)
		}
		return err
	})
}

// A database whose transactions were REPEATABLE READ: a claim that had waited for
// a transaction looked for its mark in an old snapshot, and the key was granted
// twice.
func TestIsolationOfTheDatabase(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	pg.Exec("ALTER DATABASE " + pg.Database() + " SET default_transaction_isolation = 'repeatable read'")
	s := openStore(t, pg.URL(), Options{NoListen: true})
	granted := make(chan []persist.Claim, 1)
	require.NoError(t, beginIn(t, s, []string{"k"}, func(claims []persist.Claim) {
		require.Equal(t, persist.ClaimGranted, claims[0].State)
		go func() {
			claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Minute, Keys: []string{"k"}})
			if err != nil {
				t.Error(err)
			}
			granted <- claims
		}()
		require.Eventually(t, func() bool {
			return strings.TrimSpace(pg.Exec("SELECT count(*) FROM pg_locks WHERE NOT granted")) != "0"
		}, 10*time.Second, 10*time.Millisecond)
	}))
	require.Equal(t, persist.ClaimCompleted, (<-granted)[0].State)

	_, err := New(t.Context(), openPool(t, pg.URL()), Options{NoListen: true})
	refused(t, err, persist.ErrInvalid, "default_transaction_isolation is repeatable read")
}

// A transaction that found a key busy locked its row until it ended: its holder
// could neither renew nor complete the claim, lost it, and the handler ran twice.
func TestBusyKeyIsNotLocked(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true})
	claims := claimKeys(t, s, "k", "other")
	require.NoError(t, beginIn(t, s, []string{"k"}, func(busy []persist.Claim) {
		require.Equal(t, persist.ClaimBusy, busy[0].State)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		held, err := s.RenewClaims(ctx, "g", claims, time.Minute)
		require.NoError(t, err)
		require.Equal(t, []bool{true, true}, held)
		done, err := s.Complete(ctx, "g", []persist.Completion{{Claim: claims[0]}}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, []bool{true}, done)
	}))
}

// A transaction of the store held a connection and waited for another one, to look
// its group up: with one connection for ever, and with many when all of them did.
func TestBeginNeedsNoSecondConnection(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true, MaxConns: 1})
	for range 2 {
		require.NoError(t, beginIn(t, s, []string{"k"}, func([]persist.Claim) {}))
	}
	require.Equal(t, persist.ClaimCompleted, claimKeys(t, s, "k")[0].State)
}

// A crash takes a group back that was not on the disk yet, and another group gets its
// number. A process that has used it before the crash saw the marks of the other.
func TestGroupIsTakenBackByACrash(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{NoFsync: true, SynchronousCommit: "off", Extra: []string{"wal_writer_delay = '10s'"}})
	billing := openStore(t, pg.URL(), Options{NoListen: true})
	claim := func(s *Store, group, key string) persist.Claim {
		claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: group, Owner: "o", TTL: time.Hour, Keys: []string{key}})
		require.NoError(t, err)
		return claims[0]
	}
	pg.Exec("CHECKPOINT")
	writer, err := strconv.Atoi(pg.Exec("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(writer, syscall.SIGSTOP)) // it has no turn before the crash
	lost := claim(billing, "billing", "invoice")
	pg.Kill()
	pg.Start()
	require.Equal(t, "0", pg.Exec("SELECT count(*) FROM oncemq.groups"), "the premise")
	shipping := openStore(t, pg.URL(), Options{NoListen: true})
	for _, key := range []string{"order 1", "order 2"} {
		done, err := shipping.Complete(t.Context(), "shipping", []persist.Completion{{Claim: claim(shipping, "shipping", key)}}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, []bool{true}, done)
	}
	require.Eventually(t, func() bool { _, err := billing.Time(t.Context()); return err == nil }, 20*time.Second, 10*time.Millisecond)
	done, err := billing.Complete(t.Context(), "billing", []persist.Completion{{Claim: lost}}, time.Hour)
	require.NoError(t, err)
	require.Equal(t, []bool{false}, done)
	forgotten, err := billing.Forget(t.Context(), "billing", []string{"order 1", "order 2"})
	require.NoError(t, err)
	require.Zero(t, forgotten)
	require.NoError(t, billing.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
		claims, err := p.Begin(ctx, "billing", []string{"order 1"}, time.Hour)
		if err == nil {
			require.Equal(t, persist.ClaimGranted, claims[0].State)
		}
		return err
	}))
	require.Equal(t, persist.ClaimGranted, claim(billing, "billing", "order 2").State)
}

// One claim twice in a call was told once that it was completed, and once that it
// was lost.
func TestClaimTwiceInACall(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true})
	c := claimKeys(t, s, "b", "a")
	held, err := s.RenewClaims(t.Context(), "g", []persist.Claim{c[0], c[1], c[0]}, time.Minute)
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true}, held)
	stale := c[0]
	stale.Epoch--
	done, err := s.Complete(t.Context(), "g", []persist.Completion{{Claim: stale}, {Claim: c[0]}, {Claim: c[0]}}, time.Hour)
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, true}, done)
}
