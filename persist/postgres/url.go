package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/oncemq/oncemq/persist"
)

// Driver opens PostgreSQL stores by URL:
//
//	postgres://user@host:5432/database?sslmode=verify-full
//	postgresql:///database?host=/run/postgresql&schema=orders&lanes=4
//
// Options are schema, lanes, max_messages, max_bytes (such as 64MiB), max_age (such
// as 24h), max_conns, migrate (auto or off) and listen (on or off); see [Options]. All others are PostgreSQL's and pgx's:
// sslmode, connect_timeout, application_name, pool_max_conn_idle_time,
// default_query_exec_mode and so on. Unless they say otherwise each address of the server
// is tried for 3 s (connect_timeout), and a connection that was idle answers within 1 s
// (pool_ping_timeout) or is given up.
type Driver struct{}

var _ persist.Driver = Driver{}

// Schemes are "postgres" and "postgresql".
func (Driver) Schemes() []string { return []string{"postgres", "postgresql"} }

// Open opens the store of a URL. The error wraps [persist.ErrInvalid] for a URL
// that it cannot read.
func (Driver) Open(ctx context.Context, u *url.URL) (persist.Store, error) {
	s, err := Open(ctx, u.String(), Options{})
	if err != nil {
		return nil, err // not s: a nil *Store is no nil interface
	}
	return s, nil
}

// splitURL takes the options that are ours out of a URL. An option that is in
// both is taken from the URL. The errors do not repeat the URL, in which there may
// be a password.
func splitURL(raw string, opts Options) (rest string, _ Options, err error) {
	fail := func(format string, args ...any) (string, Options, error) {
		return "", opts, fmt.Errorf("%w: postgres URL: %s", persist.ErrInvalid, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fail("it cannot be parsed")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return fail("it must begin with postgres://")
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("the options cannot be parsed")
	}
	for _, name := range append(persist.LimitOptions(), "lanes", "listen", "max_conns", "migrate", "schema") {
		list, ok := values[name]
		if !ok {
			continue
		}
		if len(list) > 1 {
			return fail("option %q is given %d times", name, len(list))
		}
		if err := opts.set(name, list[0]); err != nil {
			return fail("option %s is %q, must be %s", name, list[0], err.Error())
		}
		values.Del(name)
	}
	u.RawQuery = values.Encode()
	return u.String(), opts, nil
}

// set reads one option. The error says what it must be.
func (o *Options) set(name, value string) error {
	var err error
	switch name {
	case "schema":
		if o.Schema = value; !validSchema(value) {
			return errors.New(schemaRule)
		}
	case "lanes":
		if o.Lanes, err = strconv.Atoi(value); err != nil || o.Lanes < 1 || o.Lanes > maxLanes {
			return fmt.Errorf("a number from 1 to %d", maxLanes)
		}
	case "max_conns":
		if o.MaxConns, err = strconv.Atoi(value); err != nil || o.MaxConns < 1 {
			return fmt.Errorf("a number from 1")
		}
	case "migrate":
		switch value {
		case "auto":
			o.Migrate = MigrateAuto
		case "off":
			o.Migrate = MigrateOff
		default:
			return fmt.Errorf("auto or off")
		}
	case "listen":
		switch value {
		case "on":
			o.NoListen = false
		case "off":
			o.NoListen = true
		default:
			return fmt.Errorf("on or off")
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
