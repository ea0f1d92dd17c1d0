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

// buckets is how many hashes there are for completed keys. With a million keys 15
// share one, with ten million 150: that small a hash Redis keeps packed in one
// piece. Four times as many take half as much memory again for a million keys, and
// are no faster at ten million.
const buckets = 1 << 16

// bucketDigits is how many hexadecimal digits end the name of a bucket.
const bucketDigits = 4

// bucketOf is the number of the hash that a completed key is in. It never changes
// between versions.
func bucketOf(field string) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(field)) // never fails
	sum := h.Sum64()
	return uint32(sum^sum>>16^sum>>32^sum>>48) % buckets
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
