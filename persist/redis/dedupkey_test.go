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

// Buckets are even enough to stay small: those of keys without a time, and those
// of message IDs that are made at a steady rate.
func TestBuckets(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 0x1605c, bucketOf(fieldOf("00000000-0000-4000-8000-000000000000")), "it never changes")
	require.EqualValues(t, 0x11eb9, bucketOf(fieldOf("0190f3d4-7a10-7000-8000-000000000000")), "it never changes")
	const keys = 20 * buckets
	const turn = sliceMillis * buckets / sliceBuckets // all buckets have been in use
	for name, key := range map[string]func(i int) string{
		"text":   func(i int) string { return fmt.Sprint("order-", i) },
		"random": func(i int) string { return fmt.Sprintf("0190f3d4-7a10-4%03x-8000-%012x", i%4096, i) },
		"timed": func(i int) string {
			ms := 0x0190f3d47a10 + i*turn/keys
			return fmt.Sprintf("%08x-%04x-7%03x-8000-%012x", ms>>16, ms&0xffff, i%4096, i)
		},
	} {
		counts := make(map[uint32]int)
		for i := range keys {
			counts[bucketOf(fieldOf(key(i)))]++
		}
		require.Greater(t, len(counts), buckets*98/100, name)
		for _, n := range counts {
			require.Less(t, n, 80, name)
		}
	}
}

// Message IDs of one moment are in few buckets, so that the server's caches hold
// what is asked for.
func TestBucketsOfAMoment(t *testing.T) {
	t.Parallel()
	counts := make(map[uint32]int)
	for i := range 10_000 {
		counts[bucketOf(fieldOf(fmt.Sprintf("0190f3d4-7a%02x-7%03x-8000-%012x", i%sliceMillis, i%4096, i)))]++
	}
	require.Len(t, counts, sliceBuckets)
	for _, n := range counts {
		require.InDelta(t, 10_000/sliceBuckets, n, 80)
	}
}
