package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"

	"github.com/oncemq/oncemq/persist"
)

// schema is the version of what is kept and how. A store of a newer one is
// refused; an older one would be brought up here.
const schema = 1

// create makes the store if it is new, and reads what was settled at its
// creation. Several processes may do it at once: the first creates it.
func (s *Store) create(ctx context.Context) error {
	const op = "open"
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	answer, err := s.do(ctx, op, s.name, s.run.open, []string{s.keys.meta}, schema, hex.EncodeToString(id[:]), max(s.opts.Lanes, 1))
	if err != nil {
		return err
	}
	f := asList(answer)
	version := asInt(at(f, 0))
	s.identity, s.lanes = asText(at(f, 1)), int(asInt(at(f, 2)))
	switch {
	case version > schema:
		return fmt.Errorf("%w: it has version %d, this program knows versions up to %d", persist.ErrSchema, version, schema)
	case version < 1 || s.lanes < 1 || s.lanes > maxLanes || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(s.identity):
		return fmt.Errorf("%w: version, identity or number of lanes cannot be read", persist.ErrCorrupt)
	case s.opts.Lanes != 0 && s.opts.Lanes != s.lanes:
		return fmt.Errorf("%w: the store was created with %d lanes and cannot have %d: keys would change their lane and lose their order",
			persist.ErrInvalid, s.lanes, s.opts.Lanes)
	}
	s.keys.setLanes(s.lanes)
	return nil
}
