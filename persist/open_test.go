package persist_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// driver opens nothing, and says what it was asked for.
type driver struct {
	schemes []string
	opened  *url.URL
	err     error
}

func (d *driver) Schemes() []string { return d.schemes }

func (d *driver) Open(_ context.Context, u *url.URL) (persist.Store, error) {
	d.opened = u
	return nil, d.err
}

func TestOpenPicksTheDriver(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string]int{
		"sqlite:///var/lib/app.db":          0,
		"SQLite:///var/lib/app.db":          0, // schemes have no case
		"memory:":                           1,
		"memory:?lanes=3":                   1,
		"postgres://u:p@h:5432/db?x=1":      2,
		"postgresql://h/db":                 2,
		"sqlite:relative/path.db":           0,
		"sqlite:///a%20b/%C3%A9.db?lanes=2": 0,
	} {
		refusal := errors.New("the driver's own error")
		drivers := []*driver{
			{schemes: []string{"sqlite"}, err: refusal},
			{schemes: []string{"memory"}, err: refusal},
			{schemes: []string{"postgres", "postgresql"}, err: refusal},
		}
		_, err := persist.Open(t.Context(), rawURL, drivers[0], drivers[1], drivers[2])
		require.ErrorIs(t, err, refusal, rawURL)
		for i, d := range drivers {
			require.Equal(t, i == want, d.opened != nil, "%s and driver %d", rawURL, i)
		}
		u, err := url.Parse(rawURL)
		require.NoError(t, err)
		require.Equal(t, u, drivers[want].opened)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	sqlite, memory := &driver{schemes: []string{"sqlite"}}, &driver{schemes: []string{"memory"}}
	for rawURL, want := range map[string]string{
		"":                                    "no scheme",
		"/var/lib/app.db":                     "no scheme",
		"app.db":                              "no scheme",
		"mysql://root:hunter2@db/app":         `scheme "mysql" is unknown`,
		"sqlite3:///var/lib/app.db":           `scheme "sqlite3" is unknown`,
		"postgres://u:hunter2@h:port/db":      "cannot be parsed",
		"postgres://u:hunter2%zz@h/db":        "cannot be parsed",
		"sqlite:///a\x00b?pass=hunter2":       "cannot be parsed",
		"://u:hunter2@h":                      "cannot be parsed",
		" sqlite:///var/lib/app.db":           "cannot be parsed",
		"u:hunter2@h/db":                      `scheme "u" is unknown`,
		"redis://:hunter2@h?password=hunter2": `scheme "redis" is unknown`,
	} {
		store, err := persist.Open(t.Context(), rawURL, sqlite, memory)
		require.Nil(t, store)
		require.ErrorIs(t, err, persist.ErrInvalid, rawURL)
		require.ErrorContains(t, err, want, rawURL)
		require.NotContains(t, err.Error(), "hunter2", rawURL)
		require.NotContains(t, err.Error(), "\n")
	}
	_, err := persist.Open(t.Context(), "redis:", sqlite, memory)
	require.ErrorContains(t, err, "sqlite, memory", "what would be right")
	require.Nil(t, sqlite.opened)
	require.Nil(t, memory.opened)
}

func TestOpenWithoutDrivers(t *testing.T) {
	t.Parallel()
	_, err := persist.Open(t.Context(), "sqlite:///x")
	require.ErrorIs(t, err, persist.ErrInvalid)
}

func FuzzOpen(f *testing.F) {
	for _, seed := range []string{"sqlite:///a.db?lanes=2", "memory:", "postgres://u:hunter2@h/db", ":", "a b:c", "%zz", "sqlite://[::1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rawURL string) {
		d := &driver{schemes: []string{"sqlite"}, err: errors.New("opened")}
		_, err := persist.Open(context.Background(), rawURL, d)
		if d.opened != nil {
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
