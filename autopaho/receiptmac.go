package autopaho

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// propertyMAC is the user property of a receipt that proves its origin.
const propertyMAC = "receipt-mac"

// leastKey is how long a key of receipts must be: as long as what it makes, or
// half of it if somebody has only that.
const leastKey = 16

// receiptMAC is the proof that whoever sent a receipt has the key: HMAC-SHA-256,
// in base64url, over what the receipt says. Each part goes in with its length, so
// that no two receipts are the same bytes, and with a name, so that nothing else
// that is made with the key is a receipt.
func receiptMAC(key []byte, id, status, reason string) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range [...]string{"oncemq receipt 1", id, status, reason} {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(part)))
		mac.Write(length[:]) // of a hash: never fails
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.AppendEncode(nil, mac.Sum(nil))
}

// isGenuine tells whether a receipt was made with one of the keys; without keys
// every one counts as such. It takes the same time whatever mac is.
func isGenuine(keys [][]byte, id, status, reason, mac string) bool {
	genuine := len(keys) == 0
	for _, key := range keys {
		if hmac.Equal(receiptMAC(key, id, status, reason), []byte(mac)) {
			genuine = true
		}
	}
	return genuine
}
