package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/oncemq/oncemq/persist"
)

var _ persist.Maintainer = Driver{}

// Migrate brings the store in a file to this version; see [persist.Maintainer].
func (d Driver) Migrate(ctx context.Context, u *url.URL) (from, to int, err error) {
	before, err := d.Check(ctx, u)
	if err != nil {
		return 0, 0, err
	}
	s, err := d.Open(ctx, u)
	if err != nil {
		return before.Schema, before.Latest, err
	}
	return before.Schema, before.Latest, s.Close(ctx)
}

// Check looks at a file; see [persist.Maintainer].
func (Driver) Check(ctx context.Context, u *url.URL) (report persist.Report, err error) {
	const op = "check"
	path, opts, err := parseURL(u)
	if err != nil {
		return report, err
	}
	if opts, err = opts.withDefaults(); err != nil {
		return report, &persist.Error{Op: op, Object: path, Kind: persist.ErrInvalid, Err: err}
	}
	all, err := loadMigrations(opts.Prefix)
	if err != nil {
		return report, translate(op, path, err)
	}
	report.Latest = int(all[len(all)-1].number)
	report.Server = "SQLite " + sqlite3.SQLITE_VERSION
	report.Limits = opts.limits()
	report.Durability = (&Store{opts: opts}).Durability()
	report.Settings = judged(path, "", opts)
	if _, err := os.Stat(path); err != nil { //nolint:gosec // the path is the caller's to choose
		if errors.Is(err, fs.ErrNotExist) {
			return report, nil
		}
		return report, &persist.Error{Op: op, Object: path, Kind: fileKind(err), Err: err}
	}
	db, err := sql.Open("sqlite", dsn(path, opts)+"&mode=ro")
	if err != nil {
		return report, translate(op, path, err)
	}
	defer func() { err = both(err, db.Close()) }()
	report.Schema, err = versionIn(ctx, db, opts.Prefix)
	if err != nil {
		return report, translate(op, path, err)
	}
	var journal string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
		return report, translate(op, path, err)
	}
	report.Settings = judged(path, journal, opts)
	if f, err := os.OpenFile(path, os.O_RDWR, 0); err != nil { //nolint:gosec // as above
		report.Missing = append(report.Missing, "writing to "+path)
	} else if err := f.Close(); err != nil {
		return report, translate(op, path, err)
	}
	return report, nil
}

// versionIn is the version of the tables in a database, zero if there are none.
func versionIn(ctx context.Context, db *sql.DB, prefix string) (version int, err error) {
	q, err := loadQueries(prefix)
	if err != nil {
		return 0, err
	}
	var one int
	err = db.QueryRowContext(ctx, q.metaTable.text).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err == nil {
		err = db.QueryRowContext(ctx, q.metaGet.text, metaSchema).Scan(&version)
	}
	return version, err
}
