package postgres

import (
	"context"
	"fmt"
	"net/url"

	"github.com/oncemq/oncemq/persist"
)

var _ persist.Maintainer = Driver{}

// Migrate is [Migrate] of a URL; see [persist.Maintainer].
func (Driver) Migrate(ctx context.Context, u *url.URL) (from, to int, err error) {
	return Migrate(ctx, u.String(), Options{})
}

// Check is [Check] of a URL; see [persist.Maintainer].
func (Driver) Check(ctx context.Context, u *url.URL) (persist.Report, error) {
	r, err := Check(ctx, u.String(), Options{})
	report := persist.Report{
		Schema: r.Schema, Latest: r.Latest, Durability: r.Durability, Settings: r.Settings, Limits: r.Limits, Missing: r.Missing,
	}
	if r.ServerVersion > 0 {
		report.Server = fmt.Sprintf("PostgreSQL %d.%d", r.ServerVersion/10000, r.ServerVersion%10000)
	}
	if r.Pooled {
		report.Notes = append(report.Notes,
			"A pooler stands between: messages of other processes are found by polling, not by notification.")
	}
	return report, err
}
