package autopaho

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A machine slept for longer than its lease. Its monotonic clock had stood still,
// so the relay took the lane for its own when it woke up, and sent.
func TestSpanEndsWhileTheMachineSleeps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &span{now, 5 * time.Second}
	require.True(t, s.covers(now.Add(4*time.Second)))
	require.False(t, s.covers(now.Add(5*time.Second)))
	require.False(t, s.reaches(0, time.Minute), "asleep for a minute")
	require.False(t, s.reaches(time.Minute, 0), "the wall clock was set back")
	require.True(t, s.reaches(time.Second, -time.Hour), "the wall clock was set back")
	require.False(t, (*span)(nil).covers(now))
}
