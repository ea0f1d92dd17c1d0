package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/oncemq/oncemq/persist"
)

// The names in the table of what was settled when the store was created.
const (
	metaSchema   = "schema"
	metaIdentity = "identity"
	metaLanes    = "lanes"
)

// migration is one file in migrations: NNNN_name.sql, numbered from 1 without a
// gap, never edited after its release.
type migration struct {
	number int64
	name   string
	text   string
}

func loadMigrations(prefix string) ([]migration, error) {
	files, err := sqlFiles.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, file := range files {
		digits, _, _ := strings.Cut(file.Name(), "_")
		number, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", file.Name(), err)
		}
		text, err := sqlFiles.ReadFile(path.Join("migrations", file.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, migration{number: number, name: file.Name(), text: withPrefix(string(text), prefix)})
	}
	slices.SortFunc(all, func(a, b migration) int { return int(a.number - b.number) })
	return all, nil
}

// migrate brings the tables to the schema of this version, creates the store if
// it is new, and reads what was settled at its creation. Several processes may
// do it at once: the write lock is taken before the version is looked at.
func (s *Store) migrate(ctx context.Context, c *conn) (err error) {
	all, err := loadMigrations(s.opts.Prefix)
	if err != nil {
		return err
	}
	if _, err := c.exec(ctx, s.q.begin); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// Nothing to add if that fails: the connection is given up.
			_, _ = c.exec(ctx, s.q.rollback)
		}
	}()
	version := int64(0)
	var one [1]driver.Value
	exists, err := queryRow(ctx, c, one[:], s.q.metaTable)
	if err != nil {
		return err
	}
	if exists {
		v, err := getMeta(ctx, c, s.q, metaSchema)
		if err != nil {
			return err
		}
		version = asInt(v)
	}
	newest := all[len(all)-1].number
	if version > newest {
		return fmt.Errorf("%w: it has version %d, this program knows versions up to %d", persist.ErrSchema, version, newest)
	}
	changed := false
	for _, m := range all {
		if m.number <= version {
			continue
		}
		changed = true
		if err := c.pragma(ctx, m.text); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	if changed {
		if _, err := c.exec(ctx, s.q.metaPut, metaSchema, newest); err != nil {
			return err
		}
	}
	if !exists {
		if err := s.create(ctx, c); err != nil {
			return err
		}
	}
	if err := s.settled(ctx, c); err != nil {
		return err
	}
	// SQLite lets a transaction of a read-only file begin, even IMMEDIATE.
	if _, err := c.exec(ctx, s.q.writeLock); err != nil {
		return err
	}
	_, err = c.exec(ctx, s.q.commit)
	return err
}

// create settles what never changes afterwards.
func (s *Store) create(ctx context.Context, c *conn) error {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	if _, err := c.exec(ctx, s.q.metaPut, metaIdentity, hex.EncodeToString(id[:])); err != nil {
		return err
	}
	lanes := max(s.opts.Lanes, 1)
	for lane := range lanes {
		below, _ := laneBounds(lane)
		if _, err := c.exec(ctx, s.q.laneCreate, int64(lane), below+1); err != nil {
			return err
		}
	}
	_, err := c.exec(ctx, s.q.metaPut, metaLanes, int64(lanes))
	return err
}

// settled reads what create has settled.
func (s *Store) settled(ctx context.Context, c *conn) error {
	identity, err := getMeta(ctx, c, s.q, metaIdentity)
	if err != nil {
		return err
	}
	s.identity = asText(identity)
	lanes, err := getMeta(ctx, c, s.q, metaLanes)
	if err != nil {
		return err
	}
	s.lanes = int(asInt(lanes))
	if s.lanes < 1 || s.lanes > maxLanes || len(s.identity) != 32 {
		return fmt.Errorf("%w: identity or number of lanes cannot be read", persist.ErrCorrupt)
	}
	if s.opts.Lanes != 0 && s.opts.Lanes != s.lanes {
		return fmt.Errorf("%w: the store was created with %d lanes and cannot have %d: keys would change their lane and lose their order",
			persist.ErrInvalid, s.lanes, s.opts.Lanes)
	}
	return nil
}

// getMeta reads a value that must be there.
func getMeta(ctx context.Context, r runner, q *queries, name string) (driver.Value, error) {
	var dest [1]driver.Value
	found, err := queryRow(ctx, r, dest[:], q.metaGet, name)
	if err == nil && !found {
		err = fmt.Errorf("%w: %s is missing", persist.ErrCorrupt, name)
	}
	return dest[0], err
}

// isMissing tells whether a table or column is not there.
func isMissing(err error) bool {
	code, ok := resultCode(err)
	return ok && code == sqlite3.SQLITE_ERROR || errors.Is(err, persist.ErrCorrupt)
}
