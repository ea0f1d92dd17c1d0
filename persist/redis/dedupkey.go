package redis

import (
	"crypto/sha256"
	"hash/fnv"
)

// uuidText is the length of a UUID as text.
const uuidText = 36

// fieldOf is what stands for a dedup key in a hash: 16 bytes, so that a hash of
// many is small. Of a UUID in its canonical form, which nearly all message IDs
// are, it is the UUID itself; of any other key a mark and the first 16 bytes of
// its SHA-256, which is one byte longer and so never equal to a UUID.
func fieldOf(key string) string {
	var b [17]byte
	if parseUUID(key, b[:16]) {
		return string(b[:16])
	}
	sum := sha256.Sum256([]byte(key))
	b[0] = '#'
	copy(b[1:], sum[:16])
	return string(b[:])
}

// parseUUID reads a UUID in its canonical form: hyphens, and no capitals, since
// the same in capitals is another key.
func parseUUID(key string, dst []byte) bool {
	if len(key) != uuidText || key[8] != '-' || key[13] != '-' || key[18] != '-' || key[23] != '-' {
		return false
	}
	at := 0
	for i := 0; i < uuidText; i += 2 {
		if key[i] == '-' {
			i++
		}
		high, low := nibble(key[i]), nibble(key[i+1])
		if high > 0xf || low > 0xf {
			return false
		}
		dst[at] = high<<4 | low
		at++
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// buckets is how many hashes there are for completed keys. With a million keys 8
// share one, with ten million 76: that small a hash Redis keeps packed in one piece,
// which it searches from end to end.
const buckets = 1 << 17

// bucketDigits is how many hexadecimal digits end the name of a bucket.
const bucketDigits = 5

// The UUIDs of a slice of time share a few buckets, and the next slice has the
// next ones. So what is claimed now, and will soon be asked for again, is in
// hashes that the server touched a moment ago, however many keys it remembers.
// With ten million keys that makes a quarter more claims a second than keys that
// are spread over all buckets. At a hundred thousand keys a second four hundred
// share a bucket before its turn comes again.
const (
	sliceMillis  = 256
	sliceBuckets = 64
)

// bucketOf is the number of the hash that a completed key is in. It never changes
// between versions.
func bucketOf(field string) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(field)) // never fails
	sum := h.Sum64()
	spread := uint32(sum ^ sum>>16 ^ sum>>32 ^ sum>>48)
	if len(field) != 16 || field[6]>>4 != 7 {
		return spread % buckets
	}
	var ms uint64 // of a UUID of version 7, which nearly all message IDs are
	for i := range 6 {
		ms = ms<<8 | uint64(field[i])
	}
	return (uint32(ms/sliceMillis)*sliceBuckets + spread%sliceBuckets) % buckets
}

// groupKeys are the names of one group's keys.
type groupKeys struct {
	number string
	work   string // hash: field to what include/claims.lua describes
	used   string // bits: which buckets are in use
	done   string // begins the names of buckets
}

func (k *keys) group(number string) groupKeys {
	return groupKeys{
		number: number, work: k.tag + "work:" + number,
		used: k.tag + "used:" + number, done: k.tag + "done:" + number + ":",
	}
}

// appendBucket appends the name of the bucket of a number, which ends with that.
func (g *groupKeys) appendBucket(dst []byte, number uint32) []byte {
	dst = append(dst, g.done...)
	const digits = "0123456789abcdef"
	for shift := 4 * (bucketDigits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, digits[number>>shift&0xf])
	}
	return dst
}

func (g *groupKeys) bucket(number uint32) string { return string(g.appendBucket(nil, number)) }
