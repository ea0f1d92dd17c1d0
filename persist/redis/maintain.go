package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/persist"
)

var _ persist.Maintainer = Driver{}

// Migrate creates the store of a URL if there is none; see [persist.Maintainer].
func (d Driver) Migrate(ctx context.Context, u *url.URL) (from, to int, err error) {
	before, err := d.Check(ctx, u)
	if err != nil {
		return 0, 0, err
	}
	s, err := d.Open(ctx, u)
	if err != nil {
		return before.Schema, schema, err
	}
	return before.Schema, schema, s.Close(ctx)
}

// Check looks at a server and a prefix; see [persist.Maintainer].
func (Driver) Check(ctx context.Context, u *url.URL) (report persist.Report, err error) {
	const op = "check"
	var opts Options
	c, err := parseURL(u, &opts)
	if err != nil {
		return report, translate(op, "", false, err)
	}
	if opts, err = opts.withDefaults(); err != nil {
		return report, &persist.Error{Op: op, Object: c.name, Kind: persist.ErrInvalid, Err: err}
	}
	s := &Store{client: c.client(), name: c.name + " " + opts.Prefix, opts: opts, keys: newKeys(opts.Prefix)}
	defer func() { err = errors.Join(err, s.client.Close()) }()
	report.Latest, report.Limits = schema, opts.limits()
	v, err := s.lookAt(ctx)
	if err != nil {
		return report, s.openError(err)
	}
	report.Server = "Redis " + v.version
	report.Durability, report.Settings = v.durability(opts), v.judged(opts)
	if evicts(v.policy) {
		report.Notes = append(report.Notes, fmt.Sprintf("maxmemory-policy is %s: the server deletes messages when its memory is full.", v.policy))
	}
	text, err := s.client.HGet(ctx, s.keys.meta, "schema").Result()
	if errors.Is(err, goredis.Nil) {
		return report, nil
	}
	if err != nil {
		return report, s.openError(err)
	}
	if report.Schema, err = strconv.Atoi(text); err != nil {
		return report, &persist.Error{Op: op, Object: s.name, Kind: persist.ErrCorrupt, Err: errors.New("its version cannot be read")}
	}
	return report, nil
}
