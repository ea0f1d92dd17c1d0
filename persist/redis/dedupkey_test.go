package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// No two keys share a field: not a UUID and what looks like one, nor a key and
// one that was made to look like its hash.
func TestFields(t *testing.T) {
	t.Parallel()
	id := uuid.Must(uuid.NewV7()).String()
	require.Len(t, fieldOf(id), 16)
	parsed := uuid.MustParse(id)
	require.Equal(t, string(parsed[:]), fieldOf(id))
	seen := make(map[string]string)
	for _, key := range []string{
		id, strings.ToUpper(id), strings.ReplaceAll(id, "-", ""), "{" + id + "}", id + " ", id + "\x00", "urn:uuid:" + id,
		strings.Replace(id, "-", "_", 1), string(parsed[:]), "#" + string(parsed[:]), "", "\x00", "}", "{oncemq}:meta", strings.Repeat("k", 1<<16),
		fieldOf("a"), fieldOf("a")[1:], "a", "g" + id[1:],
	} {
		field := fieldOf(key)
		require.LessOrEqual(t, len(field), 17)
		require.NotContains(t, seen, field, "%q and %q", key, seen[field])
		seen[field] = key
	}
	hash := fieldOf("a")[1:]
	twin, err := uuid.FromBytes([]byte(hash))
	require.NoError(t, err)
	require.NotEqual(t, fieldOf("a"), fieldOf(twin.String()))
}

// Buckets are even enough to stay small.
func TestBuckets(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 0xaf71, bucketOf(fieldOf("00000000-0000-7000-8000-000000000000")), "it never changes")
	counts := make(map[uint32]int)
	const keys = 20 * buckets
	for i := range keys {
		counts[bucketOf(fieldOf(fmt.Sprintf("0190f3d4-7a10-7%03x-8000-%012x", i%4096, i)))]++
	}
	require.Greater(t, len(counts), buckets*98/100)
	for _, n := range counts {
		require.Less(t, n, 80)
	}
}
