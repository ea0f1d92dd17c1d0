package comparison

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/oncemq/oncemq/qos"
)

// kind is a kind of message.
type kind struct {
	name, topic string
	text        string // what its payload says beside its number
}

// kinds are what is sent: of ten messages seven are telemetry, two are alerts and
// one is a command.
func kinds() [3]kind {
	return [3]kind{
		{"telemetry", "sensors/%d/temperature", `"celsius":21.5`},
		{"alert", "alerts/%d", `"alert":"over temperature","limit":80`},
		{"command", "actuators/valves/%d", `"command":"close"`},
	}
}

// kindOf is the index of the kind of message n.
func kindOf(n int) int {
	switch n % 10 {
	case 3, 7:
		return 1
	case 9:
		return 2
	}
	return 0
}

// sources is how many devices there are of a kind.
const sources = 8

// payloadSize is how many bytes at the end of a payload tell which message it is.
const payloadSize = len(`"n":00000000}`)

// topicOf is the topic of message n below a root.
func topicOf(root string, n int) string {
	return root + "/" + fmt.Sprintf(kinds()[kindOf(n)].topic, n%sources)
}

func payloadOf(n int) []byte {
	k := kinds()[kindOf(n)]
	return fmt.Appendf(nil, `{"kind":%q,%s,"n":%08d}`, k.name, k.text, n)
}

// numberOf is the number of a message by its payload.
func numberOf(payload []byte) (int, bool) {
	if len(payload) < payloadSize {
		return 0, false
	}
	text := string(payload[len(payload)-payloadSize:])
	text, ok := strings.CutPrefix(text, `"n":`)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, "}"))
	return n, err == nil
}

// levels are the levels that are compared.
func levels() [3]qos.Level { return [3]qos.Level{qos.AtMostOnce, qos.AtLeastOnce, qos.ExactlyOnce} }
