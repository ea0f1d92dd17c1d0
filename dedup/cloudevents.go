package dedup

import (
	"strconv"
	"strings"

	"github.com/oncemq/oncemq/persist"
)

// ByCloudEvents takes source and id of a CloudEvent, which together are unique
// to an event (CloudEvents 1.0.2, "id"). The two content modes of the MQTT
// protocol binding are read:
//
//   - binary: the user properties "source" and "id"; the binding uses attribute
//     names unchanged (section 3.1.3.1), without a prefix as in HTTP or AMQP;
//   - structured: the attributes in the payload, if the content type is
//     application/cloudevents+json. Of other formats the user properties are
//     read, which a sender may add (section 3.2.3).
//
// The same event has the same key in either mode. A batch of events
// (application/cloudevents-batch) has no key.
func ByCloudEvents(m *persist.Message) (string, bool) {
	mediaType, _, _ := strings.Cut(m.Properties.ContentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	var source, id string
	switch {
	case strings.HasPrefix(mediaType, "application/cloudevents-batch"):
		return "", false
	case mediaType == "application/cloudevents+json":
		var isString [2]bool
		source, isString[0], _ = jsonScalar(m.Payload, []string{"source"})
		id, isString[1], _ = jsonScalar(m.Payload, []string{"id"})
		if !isString[0] || !isString[1] {
			return "", false
		}
	default:
		source, _ = m.Properties.Get("source")
		id, _ = m.Properties.Get("id")
	}
	if source == "" || id == "" { // both are REQUIRED and non-empty
		return "", false
	}
	return frame("cloudevents:"+strconv.Itoa(len(source))+":"+source, id), true
}
