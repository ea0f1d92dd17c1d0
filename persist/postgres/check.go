package postgres

import (
	"context"

	"github.com/oncemq/oncemq/persist"
)

// Migrate brings the schema of a URL to this version, creating it if need be, and
// tells the versions before (0: there was none) and after. The policy of the
// options does not matter. Errors are those of [Open].
func Migrate(ctx context.Context, rawURL string, opts Options) (from, to int, err error) {
	const op = "migrate"
	config, opts, err := configOf(rawURL, opts)
	if err != nil {
		return 0, 0, &persist.Error{Op: op, Err: err}
	}
	opts.Migrate = MigrateAuto
	name := placeName(config.ConnConfig, opts.Schema)
	s, _, err := openQuietly(ctx, config, opts, name)
	if err != nil {
		return 0, 0, translate(op, name, err)
	}
	defer s.pool.Close()
	from, to, err = s.migrate(ctx, MigrateAuto)
	return from, to, translate(op, name, err)
}

// Report is what [Check] finds.
type Report struct {
	// Schema is the version of the tables; zero if there are none. Latest is the
	// one that this program makes.
	Schema, Latest int
	// ServerVersion is PostgreSQL's, as server_version_num: 150018 for 15.18.
	ServerVersion int
	// Pooled: a pooler such as PgBouncer stands between. There are no wake-ups
	// between processes then.
	Pooled bool
	// Durability is what the server's settings promise, in a sentence.
	Durability string
	// Settings are what that rests on.
	Settings []persist.Setting
	// Limits are those of the outbox, as asked for.
	Limits persist.Limits
	// Missing are the rights that the role lacks, "INSERT on oncemq.outbox".
	Missing []string
}

// Check looks at the server and the schema of a URL and changes nothing. Errors are
// those of [Open], but that missing, old or new tables are none: the report says
// so.
func Check(ctx context.Context, rawURL string, opts Options) (Report, error) {
	const op = "check"
	config, opts, err := configOf(rawURL, opts)
	if err != nil {
		return Report{}, &persist.Error{Op: op, Err: err}
	}
	name := placeName(config.ConnConfig, opts.Schema)
	s, v, err := openQuietly(ctx, config, opts, name)
	if err != nil {
		return Report{}, translate(op, name, err)
	}
	defer s.pool.Close()
	s.durability = v.settings
	report := Report{ServerVersion: v.version, Pooled: v.pooled, Durability: s.Durability(), Settings: v.settings.judged(), Limits: s.opts.limits()}
	if report.Schema, report.Latest, err = s.Schema(ctx); err != nil {
		return report, err
	}
	err = s.transact(ctx, op, name, reads, func() []step {
		report.Missing = nil
		return []step{{stmt: s.q.rightsMissing, args: []any{opts.Schema}, row: func(r row) error {
			var missing string
			err := r.Scan(&missing)
			report.Missing = append(report.Missing, missing)
			return err
		}}}
	})
	return report, err
}

// Schema tells which version the tables have, zero if there are none, and which is
// the latest that this program knows.
func (s *Store) Schema(ctx context.Context) (current, latest int, err error) {
	const op = "schema version"
	all, err := loadMigrations(s.opts.Schema)
	if err != nil {
		return 0, 0, translate(op, s.name, err)
	}
	latest = all[len(all)-1].number
	if err := s.enter(op); err != nil {
		return 0, latest, err
	}
	defer s.leave()
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, latest, translate(op, s.name, err)
	}
	defer c.Release()
	st, err := s.found(ctx, pgxRunner{c})
	return st.version, latest, translate(op, s.name, err)
}
