package sqlite

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	driver "modernc.org/sqlite"

	"github.com/oncemq/oncemq/persist"
)

// open opens a store that is closed when the test ends.
func open(t *testing.T, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func file(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "store.db")
}

// database opens the file as another program would.
func database(t *testing.T, path, params string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?"+params)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func execute(t *testing.T, db *sql.DB, text string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), text, args...)
	require.NoError(t, err)
}

// refused demands a kind of error, and that it is one line.
func refused(t *testing.T, err, kind error) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	require.NotContains(t, err.Error(), "\n")
}

func TestFilesAreTheOwners(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "folder")
	path := filepath.Join(dir, "store.db")
	s := open(t, path, Options{})
	_, err := s.Enqueue(t.Context(), []persist.Message{{ID: "i", Topic: "t"}})
	require.NoError(t, err)
	for name, want := range map[string]os.FileMode{
		dir: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600,
	} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), name)
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b", "what?", "100%41", "a#b", "ü", "a&b=c", ":x:", "-"} {
		path := filepath.Join(t.TempDir(), name)
		s := open(t, path, Options{})
		require.NoError(t, s.Close(t.Context()))
		require.FileExists(t, path)
		require.Equal(t, s.Identity(), open(t, path, Options{}).Identity(), name)
	}
}

func TestNoSymbolicLinks(t *testing.T) {
	t.Parallel()
	link := file(t)
	require.NoError(t, os.Symlink(link+".target", link))
	_, err := Open(t.Context(), link, Options{})
	refused(t, err, persist.ErrInvalid)
	require.NoFileExists(t, link+".target")
}

func TestIdentityAndLanes(t *testing.T) {
	t.Parallel()
	path := file(t)
	first := open(t, path, Options{Lanes: 3})
	require.Len(t, first.Identity(), 32)
	require.NotEqual(t, first.Identity(), open(t, file(t), Options{}).Identity())

	again := open(t, path, Options{})
	require.Equal(t, first.Identity(), again.Identity())
	lanes, err := again.Lanes(t.Context())
	require.NoError(t, err)
	require.Len(t, lanes, 3, "zero takes what is there")

	_, err = Open(t.Context(), path, Options{Lanes: 4})
	refused(t, err, persist.ErrInvalid)
	require.Contains(t, err.Error(), "3 lanes")
	require.Contains(t, err.Error(), "have 4")
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), file(t), Options{Lanes: 65, Synchronous: 7, BusyTimeout: 1, MaxMessages: -1, Prefix: `"; drop`})
	refused(t, err, persist.ErrInvalid)
	for _, name := range []string{"lanes", "synchronous", "busy_timeout", "max_messages", "prefix"} {
		require.Contains(t, err.Error(), name, "all faults at once")
	}
	for _, prefix := range []string{"a", "_", "a_1", strings.Repeat("x", 31)} {
		require.True(t, validPrefix(prefix), prefix)
	}
	for _, prefix := range []string{"", "1a", "A", "a-b", `a"`, "ü", "a\x00", "sqlite_", "sqlite_a", strings.Repeat("x", 32)} {
		require.False(t, validPrefix(prefix), "%q", prefix)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct {
		path string
		opts Options
	}{
		"sqlite:///var/lib/x.db":                  {path: "/var/lib/x.db"},
		"sqlite:x.db":                             {path: "x.db"},
		"sqlite:./a/x.db":                         {path: "./a/x.db"},
		"sqlite:/x.db":                            {path: "/x.db"},
		"sqlite:a%20b%3Fc.db":                     {path: "a b?c.db"},
		"sqlite:///x.db?lanes=4&prefix=p_":        {path: "/x.db", opts: Options{Lanes: 4, Prefix: "p_"}},
		"sqlite:x?synchronous=normal":             {path: "x", opts: Options{Synchronous: SynchronousNormal}},
		"sqlite:x?synchronous=full":               {path: "x"},
		"sqlite:x?busy_timeout=2s&max_messages=9": {path: "x", opts: Options{BusyTimeout: 2e9, MaxMessages: 9}},
		"sqlite:x?max_bytes=1KiB&max_age=2h":      {path: "x", opts: Options{MaxBytes: 1024, MaxAge: 2 * 3600e9}},
	} {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		path, opts, err := parseURL(u)
		require.NoError(t, err, raw)
		require.Equal(t, want.path, path, raw)
		require.Equal(t, want.opts, opts, raw)
	}
	for raw, hint := range map[string]string{
		"sqlite://x.db":                 "sqlite:relative/path",
		"sqlite://u:secret@h/x.db":      "no host",
		"sqlite:":                       "no file",
		"sqlite:///":                    "no file",
		"sqlite::memory:":               "memory:",
		"sqlite:x%00":                   "NUL",
		"sqlite:x%zz":                   "escape",
		"sqlite:///x#y":                 "%23",
		"sqlite:x?lane=1":               "known are busy_timeout, lanes, max_age, max_bytes, max_messages, prefix, synchronous",
		"sqlite:x?lanes=1&lanes=1":      "2 times",
		"sqlite:x?lanes=0":              "from 1 to 64",
		"sqlite:x?lanes=65":             "from 1 to 64",
		"sqlite:x?synchronous=off":      "full or normal",
		"sqlite:x?busy_timeout=5":       "such as 5s",
		"sqlite:x?busy_timeout=-5s":     "such as 5s",
		"sqlite:x?max_messages=-1":      "0 for no limit",
		"sqlite:x?prefix=1":             "no digit first",
		"sqlite:x?prefix=&lanes=%zz":    "parsed",
		"sqlite:x?synchronous=full;a=b": "parsed",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			continue // persist.Open has refused it
		}
		_, err = Driver{}.Open(t.Context(), u)
		refused(t, err, persist.ErrInvalid)
		require.Contains(t, err.Error(), hint, raw)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestOpenByURL(t *testing.T) {
	t.Parallel()
	path := file(t)
	s, err := persist.Open(t.Context(), "sqlite://"+path+"?lanes=2", Driver{})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	require.FileExists(t, path)
}

func TestCorruptFile(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{
		"text":           []byte(strings.Repeat("this is no database\n", 500)),
		"header and all": append([]byte("SQLite format 3\x00"), make([]byte, 8192)...),
	} {
		path := file(t)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := Open(t.Context(), path, Options{})
		refused(t, err, persist.ErrCorrupt)
		require.Contains(t, err.Error(), path, name)
		var cause *driver.Error
		require.ErrorAs(t, err, &cause, name)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, got, "it may be somebody's")
	}
}

func TestDamagedPages(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	msgs := benchMessages(2000)
	_, err := s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	for at := int64(60 * 4096); at+4096 <= info.Size(); at += 4096 {
		_, err = f.WriteAt([]byte(strings.Repeat("\xff", 4096)), at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	s = open(t, path, Options{})
	lane, err := s.AcquireLane(t.Context(), 0, "o", 1e12)
	require.NoError(t, err)
	_, err = lane.Next(t.Context(), 5000, 1<<20)
	refused(t, err, persist.ErrCorrupt)
	_, err = s.GetOutbox(t.Context(), "x")
	refused(t, err, persist.ErrCorrupt)
}

func TestNewerSchema(t *testing.T) {
	t.Parallel()
	path := file(t)
	require.NoError(t, open(t, path, Options{}).Close(t.Context()))
	execute(t, database(t, path, ""), "UPDATE oncemq_meta SET value = 99 WHERE name = 'schema'")
	_, err := Open(t.Context(), path, Options{})
	refused(t, err, persist.ErrSchema)
	require.Contains(t, err.Error(), "99")
}

func TestMetaIsMissing(t *testing.T) {
	t.Parallel()
	path := file(t)
	require.NoError(t, open(t, path, Options{}).Close(t.Context()))
	execute(t, database(t, path, ""), "DELETE FROM oncemq_meta WHERE name = 'identity'")
	_, err := Open(t.Context(), path, Options{})
	refused(t, err, persist.ErrCorrupt)
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := file(t)
	require.NoError(t, open(t, path, Options{}).Close(t.Context()))
	_, err := New(t.Context(), database(t, path, "mode=ro"), Options{})
	refused(t, err, persist.ErrReadOnly)

	if os.Geteuid() == 0 {
		t.Log("permissions do not bind root; only a database opened read-only was tried")
		return
	}
	require.NoError(t, os.Chmod(path, 0o400))
	_, err = Open(t.Context(), path, Options{})
	refused(t, err, persist.ErrReadOnly)
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o500))
	t.Cleanup(func() { require.NoError(t, os.Chmod(filepath.Dir(path), 0o700)) })
	_, err = Open(t.Context(), path+"2", Options{})
	refused(t, err, persist.ErrReadOnly)
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	path := file(t)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := Open(t.Context(), filepath.Join(path, "below-a-file"), Options{})
	refused(t, err, persist.ErrUnavailable)
	_, err = Open(t.Context(), filepath.Dir(path), Options{})
	refused(t, err, persist.ErrInvalid)
	_, err = Open(t.Context(), "", Options{})
	refused(t, err, persist.ErrInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(ctx, path, Options{})
	require.ErrorIs(t, err, context.Canceled)
}

// Ten handles find no file, and each has its own connections, as ten processes
// that start at once do.
func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	path := file(t)
	var all sync.WaitGroup
	identities := make([]string, 10)
	start := make(chan struct{})
	for i := range identities {
		all.Go(func() {
			<-start
			s, err := Open(t.Context(), path, Options{Lanes: 2, Synchronous: SynchronousNormal})
			if err != nil {
				t.Error(err)
				return
			}
			identities[i] = s.Identity()
			if _, err = s.Enqueue(t.Context(), []persist.Message{{ID: "i", Topic: "t"}}); err != nil {
				t.Error(err)
			}
			if err = s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	for _, id := range identities {
		require.Equal(t, identities[0], id)
	}
	stats, err := open(t, path, Options{}).Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 10, stats.Pending)
}

func TestInTheCallersDatabase(t *testing.T) {
	t.Parallel()
	db := database(t, file(t), "_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_pragma=synchronous(OFF)")
	execute(t, db, "CREATE TABLE mine (n INTEGER)")
	one, err := New(t.Context(), db, Options{Lanes: 2})
	require.NoError(t, err)
	two, err := New(t.Context(), db, Options{Prefix: "second_"})
	require.NoError(t, err)
	require.NotEqual(t, one.Identity(), two.Identity())

	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "INSERT INTO mine VALUES (1)")
	require.NoError(t, err)
	for _, s := range []*Store{one, two} {
		_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{{ID: "i", Topic: "t"}})
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	for _, s := range []*Store{one, two} {
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, stats.Pending)
		require.NoError(t, s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
			_, err := beginKey(ctx, p, "g", "k", 1e12)
			return err
		}))
		require.NoError(t, s.Close(t.Context()))
		require.NoError(t, s.Close(t.Context()), "once more")
		_, err = s.Enqueue(t.Context(), []persist.Message{{ID: "i", Topic: "t"}})
		refused(t, err, persist.ErrClosed)
	}
	// The pool is the caller's, and so are the settings of its connections.
	for range 3 {
		var sync int
		require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&sync))
		require.Zero(t, sync)
	}
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM mine").Scan(&n))
	require.Equal(t, 1, n)
}

func TestPoolsThatWillNotDo(t *testing.T) {
	t.Parallel()
	db := database(t, file(t), "")
	db.SetMaxOpenConns(4)
	_, err := New(t.Context(), db, Options{})
	refused(t, err, persist.ErrInvalid)
	db.SetMaxOpenConns(5)
	s, err := New(t.Context(), db, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))

	inMemory, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, inMemory.Close()) })
	_, err = New(t.Context(), inMemory, Options{})
	refused(t, err, persist.ErrInvalid)
	require.Contains(t, err.Error(), "share")
}

// Each statement has a header, and can be prepared with the tables there are,
// under any prefix.
func TestStatements(t *testing.T) {
	t.Parallel()
	files, err := sqlFiles.ReadDir("queries")
	require.NoError(t, err)
	q := &queries{}
	require.Len(t, q.files(), len(files), "each file has a field")
	for _, f := range files {
		text, err := sqlFiles.ReadFile("queries/" + f.Name())
		require.NoError(t, err)
		require.Regexp(t, `(?s)^-- Purpose: .*\n-- Parameters: .*\n-- Result: `, string(text), f.Name())
		require.NotContains(t, withoutHeader(string(text)), ";", "one statement a file")
	}
	path := file(t)
	s := open(t, path, Options{Prefix: "p1_"})
	db := database(t, path, "")
	for name, field := range s.q.files() {
		text := (*field).text
		if name != "begin" && name != "commit" && name != "rollback" && !strings.HasPrefix(name, "savepoint") {
			require.NotContains(t, text, "oncemq_", name)
		}
		prepares(t, db, name, text)
	}
	for _, sizes := range []chunks{s.q.insertPlain, s.q.insertFull, s.q.insertClaims} {
		for _, c := range sizes {
			prepares(t, db, c.name, c.text)
		}
	}
	var others int
	require.NoError(t, db.QueryRowContext(t.Context(),
		"SELECT count(*) FROM sqlite_schema WHERE name LIKE '%oncemq%'").Scan(&others))
	require.Zero(t, others)
}

func prepares(t *testing.T, db *sql.DB, name, text string) {
	t.Helper()
	stmt, err := db.PrepareContext(t.Context(), text)
	require.NoError(t, err, name)
	defer func() { require.NoError(t, stmt.Close()) }()
}
