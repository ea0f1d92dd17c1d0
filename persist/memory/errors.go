package memory

import (
	"context"
	"fmt"

	"github.com/oncemq/oncemq/persist"
)

// fail is the error of an operation on an object, of one of persist's kinds.
func fail(op, object string, kind error) error {
	return &persist.Error{Op: op, Object: object, Kind: kind}
}

// refuse is the error for an argument that cannot be used, and says what is
// wrong with it.
func refuse(op, object, format string, args ...any) error {
	return &persist.Error{
		Op: op, Object: object, Kind: persist.ErrInvalid,
		Err: fmt.Errorf(format, args...),
	}
}

// begin tells whether an operation may start: its context is alive and the
// store is open. The caller holds s.mu.
func (s *Store) begin(ctx context.Context, op, object string) error {
	if err := ctx.Err(); err != nil {
		return &persist.Error{Op: op, Object: object, Err: err}
	}
	if s.closed {
		return fail(op, object, persist.ErrClosed)
	}
	return nil
}

// laneName names a lane in an error.
func laneName(lane int) string {
	return fmt.Sprintf("lane %d", lane)
}
