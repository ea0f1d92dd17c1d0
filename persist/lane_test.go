package persist_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// The lanes of these keys are written in the stores of users. A change here
// moves their keys to other lanes, past messages that still wait in the old.
// The values are those of FNV-1a with 64 bits, computed apart from this code.
func TestLaneOfNeverChanges(t *testing.T) {
	t.Parallel()
	keys := []string{
		"", "a", "b", "sensors/1", "sensors/2", "sensors/temperature/kitchen", "größe", "日本", "🙂",
		"a\x00b", "\xff\xfe", strings.Repeat("k", 65_535),
	}
	for lanes, want := range map[int][]int{
		2:  {1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0},
		3:  {2, 1, 1, 2, 2, 2, 1, 0, 2, 0, 2, 2},
		16: {5, 12, 5, 12, 5, 6, 10, 1, 11, 2, 0, 12},
		64: {37, 12, 37, 44, 5, 22, 26, 17, 11, 50, 48, 44},
	} {
		for i, key := range keys {
			require.Equal(t, want[i], persist.LaneOf(key, lanes), "%.20q in %d lanes", key, lanes)
		}
	}
}

func TestLaneOfOneLane(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 0, -1, -1 << 31} {
		require.Zero(t, persist.LaneOf("key", lanes))
	}
}

func TestLaneOfSpreads(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{2, 3, 7, 8, 64} {
		counts := make([]int, lanes)
		const n = 64_000
		for i := range n {
			lane := persist.LaneOf(fmt.Sprint("device/", i, "/state"), lanes)
			require.True(t, lane >= 0 && lane < lanes)
			counts[lane]++
		}
		for lane, count := range counts {
			require.InDelta(t, n/lanes, count, float64(n/lanes)/4, "lane %d of %d", lane, lanes)
		}
	}
}

func FuzzLaneOf(f *testing.F) {
	f.Add("key", 3)
	f.Add("", -1)
	f.Fuzz(func(t *testing.T, key string, lanes int) {
		lane := persist.LaneOf(key, lanes)
		if lane < 0 || lane >= max(lanes, 1) {
			t.Errorf("lane %d of %d", lane, lanes)
		}
		if lane != persist.LaneOf(key, lanes) {
			t.Error("one key in two lanes")
		}
	})
}
