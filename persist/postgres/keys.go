package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// The first byte of a stored key tells what follows.
const (
	keyUUID = 1 // the 16 bytes of a UUID in its usual form
	keyRaw  = 2 // the key as it is
	keyHash = 3 // its SHA-256
)

// maxRawKey is up to which length a key is stored as it is.
const maxRawKey = 32

// storedKey is what stands for a name in a key of a table: at most 33 bytes,
// whatever its length. UUIDs keep their order, so that those of about the same
// time are neighbours in the index.
func storedKey(name string) []byte {
	if id, ok := uuidBytes(name); ok {
		return id
	}
	if len(name) <= maxRawKey {
		b := make([]byte, 1+len(name))
		b[0] = keyRaw
		copy(b[1:], name)
		return b
	}
	sum := sha256.Sum256([]byte(name))
	return append([]byte{keyHash}, sum[:]...)
}

// uuidBytes is the stored form of a UUID in lower-case letters with its four
// dashes, and of nothing else: two keys must not be one.
func uuidBytes(s string) ([]byte, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return nil, false
	}
	var digits [32]byte
	n := 0
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return nil, false
		}
		digits[n] = c
		n++
	}
	id := make([]byte, 17)
	id[0] = keyUUID
	if _, err := hex.Decode(id[1:], digits[:]); err != nil {
		return nil, false
	}
	return id, true
}

// keyList is keys in ascending order, with the place of each in the caller's list.
type keyList struct {
	keys   [][]byte
	places []int
}

func newKeyList(n int, key func(i int) string) keyList {
	l := keyList{keys: make([][]byte, n), places: make([]int, n)}
	sorted := true
	for i := range n {
		l.keys[i], l.places[i] = storedKey(key(i)), i
		sorted = sorted && (i == 0 || bytes.Compare(l.keys[i-1], l.keys[i]) <= 0)
	}
	if sorted {
		return l
	}
	keys := l.keys
	slices.SortFunc(l.places, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	l.keys = make([][]byte, n)
	for i, place := range l.places {
		l.keys[i] = keys[place]
	}
	return l
}

// place is the place of a key in the caller's list.
func (l *keyList) place(key []byte) (int, bool) {
	i, found := slices.BinarySearchFunc(l.keys, key, bytes.Compare)
	if !found {
		return 0, false
	}
	return l.places[i], true
}

// twice tells whether a key is there more than once.
func (l *keyList) twice() bool {
	for i := 1; i < len(l.keys); i++ {
		if bytes.Equal(l.keys[i-1], l.keys[i]) {
			return true
		}
	}
	return false
}
