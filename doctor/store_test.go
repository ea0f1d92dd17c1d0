package doctor_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/doctor"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// TestSQLiteSettings: what weakens a file is found.
func TestSQLiteSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "store.db")
	r := examine(t, doctor.Config{Store: "sqlite://" + file + "?synchronous=normal"})
	expect(t, &r, map[string]doctor.Severity{"store.synchronous": doctor.Warn, "store.schema": doctor.Info, "store.open": "", "broker.connect": ""})
	require.NoFileExists(t, file, "doctor creates no store")
	require.Equal(t, doctor.Weakened, state(t, &r, "enqueue"))

	const memoryDir = "/dev/shm"
	if _, err := os.Stat(memoryDir); err == nil && runtime.GOOS == "linux" {
		r = examine(t, doctor.Config{Store: "sqlite://" + memoryDir + "/oncemq-doctor-test-is-not-created.db"})
		expect(t, &r, map[string]doctor.Severity{"store.file-system": doctor.Warn})
	}
	// No database at all.
	require.NoError(t, os.WriteFile(file, []byte("this is no database, but long enough to look like one"), 0o600))
	r = examine(t, doctor.Config{Store: "sqlite://" + file})
	require.ErrorIs(t, r.StoreErr, persist.ErrCorrupt)
	expect(t, &r, map[string]doctor.Severity{"store.open": doctor.Bad})
	require.Equal(t, doctor.Broken, state(t, &r, "enqueue"))
}

// TestPostgresSettings: what the connection is set to is found.
func TestPostgresSettings(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).NewDatabase().URL()
	r := examine(t, doctor.Config{Store: url + "&synchronous_commit=off"})
	expect(t, &r, map[string]doctor.Severity{
		"store.synchronous-commit": doctor.Bad, "store.full-page-writes": doctor.OK, "store.synchronous-standby-names": doctor.Info,
		"store.schema": doctor.Info,
	})
	require.Contains(t, r.Store, "PostgreSQL 1")
}

// TestRedisSettings: a file that is synchronised every second, none, and keys that are
// evicted.
func TestRedisSettings(t *testing.T) {
	t.Parallel()
	everysec := testenv.Redis(t, testenv.RedisOptions{AppendFsync: "everysec"})
	r := examine(t, doctor.Config{Store: everysec.URL()})
	expect(t, &r, map[string]doctor.Severity{
		"store.appendonly": doctor.OK, "store.appendfsync": doctor.Warn, "store.maxmemory-policy": doctor.OK, "store.wait-replicas": doctor.Info,
	})
	none := testenv.Redis(t, testenv.RedisOptions{NoAppendOnly: true, MaxMemory: "50mb", MaxMemoryPolicy: "allkeys-lru"})
	r = examine(t, doctor.Config{Store: none.URL()})
	expect(t, &r, map[string]doctor.Severity{"store.appendonly": doctor.Bad, "store.appendfsync": "", "store.maxmemory-policy": doctor.Bad})
	none.Stop()
	r = examine(t, doctor.Config{Store: none.URL()})
	require.ErrorIs(t, r.StoreErr, persist.ErrUnavailable)
}

// behind is a store whose clock is not ours.
type behind struct {
	persist.Store
	by time.Duration
}

func (b behind) Time(ctx context.Context) (time.Time, error) {
	now, err := b.Store.Time(ctx)
	return now.Add(-b.by), err
}

func TestClockOffset(t *testing.T) {
	t.Parallel()
	store := memory.New(memory.Options{})
	for _, by := range []time.Duration{0, time.Hour, -time.Hour} {
		offset, trip, err := doctor.ClockOffset(t.Context(), behind{store, by})
		require.NoError(t, err)
		require.InDelta(t, -by.Seconds(), offset.Seconds(), 1+trip.Seconds())
	}
	require.NoError(t, store.Close(t.Context()))
	_, _, err := doctor.ClockOffset(t.Context(), store)
	require.ErrorIs(t, err, persist.ErrClosed)
}
