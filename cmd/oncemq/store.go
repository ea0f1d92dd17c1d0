package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
	"github.com/oncemq/oncemq/qos"
)

// storeOptions tell where messages and processed keys are kept.
type storeOptions struct {
	url string
}

const catStore = "Store"

func (o *storeOptions) options() []*option {
	return withEnv([]*option{{
		name: "store", category: catStore, set: name(&o.url), secret: inURL,
		def: "a SQLite file, oncemq/outbox.db in $XDG_STATE_HOME or ~/.local/state",
		usage: "`URL` of the store: sqlite:///path, sqlite:path, postgres://user@host/database, redis://host/0, " +
			"or memory: for one that ends with the process. A password in it shows in the process list; in ONCEMQ_STORE " +
			"it does not. Commands with the same store share what is in it. Limits of the outbox are options of the URL: " +
			"?max_messages=1000000&max_bytes=64MiB&max_age=24h",
	}})
}

// open opens the store, the default one if none was named.
func (o *storeOptions) open(ctx context.Context, sh *shell) (persist.Store, error) {
	raw, err := o.raw(sh)
	if err != nil {
		return nil, err
	}
	if file := sqliteFile(raw); o.url == "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, &exitError{code: exitStore, text: "--store: the default store cannot be made; name another", err: err}
		}
	}
	return openURL(ctx, raw)
}

// raw is the URL of the store, the default one if none was named.
func (o *storeOptions) raw(sh *shell) (string, error) {
	if o.url != "" {
		return o.url, nil
	}
	file, err := defaultStore(sh)
	if err != nil {
		return "", err
	}
	return sqliteURL(file), nil
}

// openExisting opens the store to look at it: it makes no file.
func (o *storeOptions) openExisting(ctx context.Context, sh *shell) (persist.Store, error) {
	raw, err := o.raw(sh)
	if err != nil {
		return nil, err
	}
	if file := sqliteFile(raw); file != "" {
		// A link that leads nowhere is there; the store refuses it.
		if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, &exitError{code: exitStore, text: "--store: there is no store at " + file + "; oncemq pub creates one"}
		}
	}
	return openURL(ctx, raw)
}

// drivers are the kinds of stores that the command knows.
func drivers() []persist.Driver {
	return []persist.Driver{sqlite.Driver{}, postgres.Driver{}, redis.Driver{}, memory.Driver{}}
}

func openURL(ctx context.Context, raw string) (persist.Store, error) {
	store, err := persist.Open(ctx, raw, drivers()...)
	if err != nil {
		return nil, storeError(ctx, err)
	}
	return store, nil
}

// storeError is an error of opening a store, or of looking at it, as the command
// line tells it. Others, and nil, are passed on.
func storeError(ctx context.Context, err error) error {
	var told *persist.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, persist.ErrInvalid):
		return &usageError{option: "--store", problem: oneLine(err)}
	case ctx.Err() != nil:
		return interrupted(ctx)
	case !errors.As(err, &told):
		return err
	}
	return &exitError{code: exitStore, text: "--store", err: pathOnce(err)}
}

// pathOnce is the error of a store without the path that the error of the file
// system beneath it repeats.
func pathOnce(err error) error {
	outer, ok := err.(*persist.Error) //nolint:errorlint // what wraps one has a text of its own
	if !ok {
		return err
	}
	inner, ok := outer.Err.(*fs.PathError) //nolint:errorlint // as above
	if !ok || inner.Path != outer.Object {
		return err
	}
	short := *outer
	short.Err = inner.Err
	return &short
}

func sqliteURL(file string) string {
	return (&url.URL{Scheme: "sqlite", Path: file}).String()
}

// sqliteFile is the file of a SQLite store's URL; empty if there is none, or if
// the URL is one that opening it refuses.
func sqliteFile(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "sqlite" || u.User != nil || u.Host != "" || u.Fragment != "" {
		return ""
	}
	file := u.Path
	if u.Opaque != "" {
		if file, err = url.PathUnescape(u.Opaque); err != nil {
			return ""
		}
	}
	if file == ":memory:" || strings.HasSuffix(file, "/") {
		return ""
	}
	return file
}

// inMemory tells whether the store ends with the process.
func (o *storeOptions) inMemory() bool {
	u, err := url.Parse(o.url)
	return err == nil && u.Scheme == "memory"
}

// defaultStore is the file of the store of this user.
func defaultStore(sh *shell) (string, error) {
	state, ok := sh.lookup("XDG_STATE_HOME")
	if !ok || !filepath.IsAbs(state) { // a relative one is invalid and ignored
		home, ok := sh.lookup("HOME")
		if !ok || home == "" {
			return "", &usageError{option: "--store", problem: "there is no home directory for the default store; name one, such as sqlite:///var/lib/app/outbox.db"}
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "oncemq", "outbox.db"), nil
}

// closeStore closes a store at a command's end. Everything was committed
// before: an error here loses nothing.
func closeStore(sh *shell, store persist.Store) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := store.Close(ctx); err != nil {
		sh.log.warn("the store was not closed in good order: %s", oneLine(err))
	}
}

// readPolicies reads a policy file; without one every message has the default
// policy.
func readPolicies(ctx context.Context, file string) (qos.Policies, error) {
	if file == "" {
		return qos.Policies{}, nil
	}
	data, err := readFile(ctx, "--policy", file)
	if err != nil {
		return qos.Policies{}, err
	}
	p, err := qos.ParsePolicies(file, data)
	if err != nil {
		return p, &usageError{option: "--policy", problem: oneLine(err)}
	}
	return p, nil
}

// interrupted is the error of a command that a signal ended before it was done, or the
// time of -W.
func interrupted(ctx context.Context) error {
	cause := context.Cause(ctx)
	var s signalError
	switch {
	case errors.As(cause, &s):
		return &exitError{code: s.exitCode(), err: s}
	case errors.Is(cause, errTimedOut):
		return errTimedOut
	}
	return &exitError{code: exitFailed, text: fmt.Sprintf("ended: %s", cause)}
}
