package persisttest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func TestRunLinearizable(t *testing.T) {
	t.Parallel()
	RunLinearizable(t, durable(nil))
}

// careless completes whatever it is told to.
type careless struct{ persist.Store }

func (c careless) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	done, err := c.Store.Complete(ctx, group, completions, window)
	for i := range done {
		done[i] = true
	}
	return done, err
}

// A store that answers what no order explains is found out.
func TestRunLinearizableCatches(t *testing.T) {
	t.Parallel()
	failures := observe(t, func(r *recorder) {
		runLinearizable(r, durable(func(_ *place, s persist.Store) persist.Store { return careless{s} }), 1)
	})
	require.NotEmpty(t, failures)
}
