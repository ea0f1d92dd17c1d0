package dedup

import (
	"strconv"
	"strings"

	"github.com/oncemq/oncemq/persist"
)

// Rekeyed tells whether a key that one of the functions of this package has made is
// another after a message was changed from before to after: for who changes a dead
// letter and has it tried again. Of the keys of other functions it knows nothing,
// and tells false.
func Rekeyed(key string, before, after *persist.Message) bool {
	kind, rest, framed := strings.Cut(key, ":")
	if !framed {
		return false // a message ID, which is kept
	}
	var f KeyFunc
	switch kind {
	case "property":
		if strings.HasPrefix(rest, "#") {
			return !sameProperties(before.Properties.User, after.Properties.User)
		}
		digits, rest, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 || n > len(rest) {
			return false
		}
		f = ByProperty(rest[:n])
	case "json":
		return string(before.Payload) != string(after.Payload)
	case "cloudevents":
		f = ByCloudEvents
	case "correlation":
		f = ByCorrelationData
	case "content":
		f = ByContent
	default:
		return false
	}
	was, _ := f(before)
	is, _ := f(after)
	return was != is
}

func sameProperties(a, b []persist.UserProperty) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
