package persist

import "hash/fnv"

// LaneOf is the lane of an ordering key in an outbox of that many lanes. It
// never changes between versions: a key that moved to another lane would lose
// its order.
func LaneOf(key string, lanes int) int {
	if lanes <= 1 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return int(h.Sum64() % uint64(lanes))
}
