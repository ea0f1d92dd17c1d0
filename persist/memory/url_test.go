package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

func open(t *testing.T, rawURL string) (persist.Store, error) {
	t.Helper()
	return persist.Open(t.Context(), rawURL, memory.Driver{})
}

func TestDriverOpens(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string]struct{ lanes, room int }{
		"memory:":                         {1, 100},
		"memory:?":                        {1, 100},
		"memory://":                       {1, 100},
		"memory:?lanes=1":                 {1, 100},
		"memory:?lanes=64":                {64, 100},
		"memory:?max_messages=3":          {1, 3},
		"memory:?lanes=5&max_messages=17": {5, 17},
		"MEMORY:?lanes=2":                 {2, 100},
	} {
		store, err := open(t, rawURL)
		require.NoError(t, err, rawURL)
		lanes, err := store.Lanes(t.Context())
		require.NoError(t, err)
		require.Len(t, lanes, want.lanes, rawURL)
		for i := range want.room {
			_, err := store.Enqueue(t.Context(), []persist.Message{{ID: fmt.Sprint(i), Topic: "t"}})
			require.NoError(t, err, rawURL)
		}
		if want.room < 100 {
			_, err := store.Enqueue(t.Context(), []persist.Message{{ID: "more", Topic: "t"}})
			require.ErrorIs(t, err, persist.ErrOutboxFull, rawURL)
		}
		require.NoError(t, store.Close(t.Context()))
	}
}

func TestDriverOpensANewStoreEachTime(t *testing.T) {
	t.Parallel()
	a, err := open(t, "memory:")
	require.NoError(t, err)
	b, err := open(t, "memory:")
	require.NoError(t, err)
	require.NotEqual(t, a.Identity(), b.Identity())
}

func TestDriverRefuses(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string]string{
		"memory:?lanes=0":                           `option lanes="0" must be a number from 1 to 64`,
		"memory:?lanes=65":                          `option lanes="65" must be a number from 1 to 64`,
		"memory:?lanes=":                            `option lanes="" must be a number from 1 to 64`,
		"memory:?lanes=two":                         `option lanes="two" must be a number from 1 to 64`,
		"memory:?lanes=-1":                          `option lanes="-1" must be a number from 1 to 64`,
		"memory:?lanes=1&lanes=2":                   "option lanes is given 2 times",
		"memory:?max_messages=-1":                   `option max_messages="-1" must be a number, 0 for no limit`,
		"memory:?max_messages=1e9":                  `option max_messages="1e9" must be a number, 0 for no limit`,
		"memory:?max_messages=99999999999999999999": "must be a number, 0 for no limit",
		"memory:?max_bytes=1MB":                     `option max_bytes="1MB" must be a number of bytes such as 1000000 or 64MiB`,
		"memory:?max_age=7":                         `option max_age="7" must be a duration from 1ms, such as 24h`,
		"memory:?lane=2":                            `option "lane" is unknown; there are lanes, max_age, max_bytes and max_messages`,
		"memory:?Lanes=2":                           `option "Lanes" is unknown`,
		"memory:?lanes=0&sync=full":                 `to 64; option "sync" is unknown`,
		"memory:?lanes=1;max_messages=2":            "cannot be parsed",
		"memory:?%zz":                               "cannot be parsed",
		"memory:///var/lib/app":                     "no name or path",
		"memory://host":                             "no name or path",
		"memory://user:hunter2@host/db":             "no name or path",
		"memory:app":                                "no name or path",
		"memory:#lanes":                             "no name or path",
	} {
		store, err := open(t, rawURL)
		require.Nil(t, store, rawURL)
		require.ErrorIs(t, err, persist.ErrInvalid, rawURL)
		require.ErrorContains(t, err, want, rawURL)
		require.ErrorContains(t, err, "open memory: ", rawURL)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "\n", "one line")
	}
}

func TestDriverHeedsTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := persist.Open(ctx, "memory:", memory.Driver{})
	require.ErrorIs(t, err, context.Canceled)
}

func FuzzDriver(f *testing.F) {
	for _, seed := range []string{"memory:", "memory:?lanes=3&max_messages=9", "memory:?lanes=%31", "memory:?a=\x00", "memory://u:p@h/x?lanes=1#f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rawURL string) {
		store, err := persist.Open(context.Background(), rawURL, memory.Driver{})
		if err == nil {
			lanes, err := store.Lanes(context.Background())
			if err != nil || len(lanes) < 1 || len(lanes) > memory.MaxLanes {
				t.Errorf("%q: %d lanes, %v", rawURL, len(lanes), err)
			}
			return
		}
		if !errors.Is(err, persist.ErrInvalid) {
			t.Errorf("%q: %v", rawURL, err)
		}
		if strings.ContainsAny(err.Error(), "\n\r\x00\x1b") {
			t.Errorf("%q: not one line: %q", rawURL, err)
		}
	})
}
