package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/persist"
)

// The names in the table of what was settled when the store was created.
const (
	metaSchema   = "schema"
	metaIdentity = "identity"
	metaLanes    = "lanes"
)

// laneShift makes a position of the number of the lane and a counter that begins
// with 1, so that a position is unique in the store and a lane is a range of
// positions.
const laneShift = 48

// migration is one file in migrations: NNNN_name.sql, numbered from 1 without a
// gap, never edited after its release.
type migration struct {
	number int
	name   string
	text   string
}

func loadMigrations(schema string) ([]migration, error) {
	files, err := sqlFiles.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, file := range files {
		digits, _, _ := strings.Cut(file.Name(), "_")
		number, err := strconv.Atoi(digits)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", file.Name(), err)
		}
		text, err := sqlFiles.ReadFile(path.Join("migrations", file.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, migration{number: number, name: file.Name(), text: withSchema(string(text), schema)})
	}
	slices.SortFunc(all, func(a, b migration) int { return a.number - b.number })
	return all, nil
}

// state is what is found in the database.
type state struct {
	schema, tables bool
	version        int
	meta           map[string]string
}

// found looks for the store in the database.
func (s *Store) found(ctx context.Context, r runner) (st state, err error) {
	_, err = r.run(ctx, []step{{stmt: s.q.metaTable, args: []any{s.opts.Schema}, row: func(r row) error {
		return r.Scan(&st.schema, &st.tables)
	}}})
	if err != nil || !st.tables {
		return st, err
	}
	st.meta = make(map[string]string)
	_, err = r.run(ctx, []step{{stmt: s.q.metaList, row: func(r row) error {
		var name, value string
		err := r.Scan(&name, &value)
		st.meta[name] = value
		return err
	}}})
	if err != nil {
		return st, err
	}
	if st.version, err = strconv.Atoi(st.meta[metaSchema]); err != nil {
		return st, fmt.Errorf("%w: its schema version cannot be read", persist.ErrCorrupt)
	}
	return st, nil
}

// migrate brings the tables to the schema of this version, if the policy allows
// it, creates the store if it is new, and reads what was settled at its creation.
// It tells the versions before and after.
//
// Several processes may do it at once: whoever finds something to do takes a lock
// first and then looks again. Who finds nothing needs no right to change anything.
func (s *Store) migrate(ctx context.Context, policy MigratePolicy) (from, to int, err error) {
	all, err := loadMigrations(s.opts.Schema)
	if err != nil {
		return 0, 0, err
	}
	latest := all[len(all)-1].number
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, latest, err
	}
	defer c.Release()
	st, err := s.found(ctx, pgxRunner{c})
	if err != nil {
		return 0, latest, err
	}
	from = st.version
	switch {
	case st.version > latest:
		return from, latest, newer(st.version, latest)
	case st.version == latest:
		return from, latest, s.settled(ctx, pgxRunner{c}, st)
	case policy == MigrateOff:
		return from, latest, older(st, latest)
	}
	err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		r := pgxRunner{tx}
		if _, err := r.run(ctx, []step{{stmt: s.q.migrateLock, args: []any{s.opts.Schema}}}); err != nil {
			return err
		}
		if st, err = s.found(ctx, r); err != nil {
			return err
		}
		from = st.version
		if st.version > latest {
			return newer(st.version, latest)
		}
		return s.upgrade(ctx, tx, st, all)
	})
	if err != nil {
		return from, latest, err
	}
	if st, err = s.found(ctx, pgxRunner{c}); err != nil {
		return from, latest, err
	}
	return from, latest, s.settled(ctx, pgxRunner{c}, st)
}

func newer(version, latest int) error {
	return fmt.Errorf("%w: it has version %d, this program knows versions up to %d", persist.ErrSchema, version, latest)
}

func older(st state, latest int) error {
	if !st.tables {
		return fmt.Errorf("%w: there is none, and it is not to be created (migrate=off)", persist.ErrSchema)
	}
	return fmt.Errorf("%w: it has version %d, this program needs version %d, and it is not to be migrated (migrate=off)",
		persist.ErrSchema, st.version, latest)
}

// upgrade runs the migrations that are missing.
func (s *Store) upgrade(ctx context.Context, tx pgx.Tx, st state, all []migration) error {
	if !st.schema {
		// Not IF NOT EXISTS: that needs the right to create even if it exists.
		if _, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{s.opts.Schema}.Sanitize()); err != nil {
			return err
		}
	}
	for _, m := range all {
		if m.number <= st.version {
			continue
		}
		// Several statements in one: no value is in them.
		if _, err := tx.Conn().PgConn().Exec(ctx, m.text).ReadAll(); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	if !st.tables {
		if err := s.create(ctx, tx); err != nil {
			return err
		}
	}
	latest := all[len(all)-1].number
	if st.version == latest {
		return nil // another process was faster
	}
	return s.putMeta(ctx, tx, metaSchema, strconv.Itoa(latest))
}

// create settles what never changes afterwards.
func (s *Store) create(ctx context.Context, tx pgx.Tx) error {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	if err := s.putMeta(ctx, tx, metaIdentity, hex.EncodeToString(id[:])); err != nil {
		return err
	}
	lanes := max(s.opts.Lanes, 1)
	for lane := range lanes {
		sequence := pgx.Identifier{s.opts.Schema, fmt.Sprintf("positions_%d", lane)}.Sanitize()
		below, above := laneBounds(lane)
		create := fmt.Sprintf("CREATE SEQUENCE %s AS bigint MINVALUE %d MAXVALUE %d", sequence, below+1, above-1)
		if _, err := tx.Exec(ctx, create); err != nil {
			return err
		}
		steps := []step{{stmt: s.q.laneCreate, args: []any{int16(lane), sequence}}}
		if _, err := (pgxRunner{tx}).run(ctx, steps); err != nil {
			return err
		}
	}
	return s.putMeta(ctx, tx, metaLanes, strconv.Itoa(lanes))
}

func (s *Store) putMeta(ctx context.Context, tx pgx.Tx, name, value string) error {
	_, err := pgxRunner{tx}.run(ctx, []step{{stmt: s.q.metaPut, args: []any{name, value}}})
	return err
}

// settled reads what create has settled.
func (s *Store) settled(ctx context.Context, r runner, st state) error {
	s.identity = st.meta[metaIdentity]
	lanes, err := strconv.Atoi(st.meta[metaLanes])
	if err != nil || lanes < 1 || lanes > maxLanes || len(s.identity) != 32 {
		return fmt.Errorf("%w: identity or number of lanes cannot be read", persist.ErrCorrupt)
	}
	s.lanes = lanes
	if s.opts.Lanes != 0 && s.opts.Lanes != s.lanes {
		return fmt.Errorf("%w: the store was created with %d lanes and cannot have %d: keys would change their lane and lose their order",
			persist.ErrInvalid, s.lanes, s.opts.Lanes)
	}
	s.sequences = nil
	_, err = r.run(ctx, []step{{stmt: s.q.laneSequences, row: func(r row) error {
		var oid int64
		err := r.Scan(&oid)
		s.sequences = append(s.sequences, oid)
		return err
	}}})
	if err == nil && len(s.sequences) != s.lanes {
		err = fmt.Errorf("%w: it has %d lanes of %d", persist.ErrCorrupt, len(s.sequences), s.lanes)
	}
	return err
}

// laneBounds are the positions below and above those of a lane.
func laneBounds(lane int) (below, above int64) {
	return int64(lane) << laneShift, int64(lane+1) << laneShift
}

func laneOfPosition(position int64) int { return int(position >> laneShift) }
