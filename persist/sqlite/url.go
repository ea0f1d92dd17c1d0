package sqlite

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Driver opens SQLite stores by URL:
//
//	sqlite:///var/lib/app/outbox.db
//	sqlite:outbox.db?lanes=4&max_messages=1000000
//
// Options are lanes, synchronous (full or normal), busy_timeout (such as 5s),
// max_messages, max_bytes (such as 64MiB), max_age (such as 24h) and prefix; see
// [Options].
type Driver struct{}

// Schemes is "sqlite".
func (Driver) Schemes() []string { return []string{"sqlite"} }

// Open opens the store of a URL. The error wraps [persist.ErrInvalid] for a URL
// that it cannot read.
func (Driver) Open(ctx context.Context, u *url.URL) (persist.Store, error) {
	path, opts, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	s, err := Open(ctx, path, opts)
	if err != nil {
		return nil, err // not s: a nil *Store is no nil interface
	}
	return s, nil
}

// urlOptions are the options that a URL may have.
func urlOptions() []string {
	return slices.Sorted(slices.Values(append(persist.LimitOptions(), "busy_timeout", "lanes", "prefix", "synchronous")))
}

// parseURL reads path and options. Its errors do not repeat the URL, in which
// somebody may have written a password.
func parseURL(u *url.URL) (path string, opts Options, err error) {
	fail := func(format string, args ...any) (string, Options, error) {
		return "", Options{}, fmt.Errorf("%w: sqlite URL: %s", persist.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if u.User != nil || u.Host != "" {
		return fail("no host is possible; write sqlite:///absolute/path or sqlite:relative/path")
	}
	path = u.Path
	if u.Opaque != "" {
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return fail("the path has a wrong %%-escape")
		}
	}
	switch {
	case path == "" || strings.HasSuffix(path, "/"):
		return fail("no file is named; write sqlite:///absolute/path or sqlite:relative/path")
	case path == ":memory:":
		return fail("a file is needed; memory: is the store in memory")
	case strings.ContainsRune(path, 0):
		return fail("the path has a NUL")
	case u.Fragment != "":
		return fail("write %%23 for # in the path")
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("the options cannot be parsed")
	}
	for name, list := range values {
		if !slices.Contains(urlOptions(), name) {
			return fail("option %q is unknown; known are %s", name, strings.Join(urlOptions(), ", "))
		}
		if len(list) > 1 {
			return fail("option %q is given %d times", name, len(list))
		}
		if err := opts.set(name, list[0]); err != nil {
			return fail("option %s is %q, must be %s", name, list[0], err.Error())
		}
	}
	return path, opts, nil
}

// set reads one option. The error says what it must be.
func (o *Options) set(name, value string) error {
	var err error
	switch name {
	case "lanes":
		if o.Lanes, err = strconv.Atoi(value); err != nil || o.Lanes < 1 || o.Lanes > maxLanes {
			return fmt.Errorf("a number from 1 to %d", maxLanes)
		}
	case "synchronous":
		switch value {
		case "full":
			o.Synchronous = SynchronousFull
		case "normal":
			o.Synchronous = SynchronousNormal
		default:
			return fmt.Errorf("full or normal")
		}
	case "busy_timeout":
		if o.BusyTimeout, err = time.ParseDuration(value); err != nil || o.BusyTimeout < minBusyTimeout {
			return fmt.Errorf("a duration such as 5s")
		}
	case "prefix":
		if o.Prefix = value; !validPrefix(value) {
			return fmt.Errorf("lower-case letters, digits and underscores, no digit first, at most %d", maxPrefix)
		}
	default:
		limits := o.limits()
		if err := limits.Set(name, value); err != nil {
			return err
		}
		o.MaxMessages, o.MaxBytes, o.MaxAge = limits.Messages, limits.Bytes, limits.Age
	}
	return nil
}
