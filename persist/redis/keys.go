package redis

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// keys are the names of what the store keeps. All begin with the prefix in
// braces, which makes them one slot of a Cluster: a step that touches several of
// them is one script, and a script has one slot. Names that come from outside
// (groups, client IDs) go in as hashes, so that none can leave the braces or be
// taken for another key.
type keys struct {
	tag string // "{oncemq}:"

	meta   string // hash: schema, identity, lanes; waited, see sendAndWait
	totals string // hash: counters of the whole store
	ids    string // hash: message ID to places, of messages that can be found by it
	dead   string // stream: dead letters, by number
	fates  string // hash: place of a message to the number of its dead letter
	relays string // sorted set: relays by the end of their announcement
	groups string // hash: number of a group to its name
	gave   string // stream: places of messages that were dropped or superseded, by their fate in fates
	latest string // hash: hash of an ordering key to the position of what its next message supersedes
	wake   string // channel

	lanes []laneKeys
}

// laneKeys are the names of one lane's keys.
type laneKeys struct {
	hash      string // counters and lease
	messages  string // stream: the messages, by position
	states    string // hash: position to what include/state.lua describes
	due       string // sorted set: positions by due
	droppable string // sorted set: pending droppable messages by position
}

func newKeys(prefix string) keys {
	tag := "{" + prefix + "}:"
	return keys{
		tag: tag, meta: tag + "meta", totals: tag + "totals", ids: tag + "ids", dead: tag + "dead",
		fates: tag + "fates", relays: tag + "relays", groups: tag + "groups", wake: tag + "wake",
		gave: tag + "gave", latest: tag + "latest",
	}
}

// setLanes names the keys of the lanes.
func (k *keys) setLanes(n int) {
	k.lanes = make([]laneKeys, n)
	for i := range k.lanes {
		hash := k.tag + "lane:" + strconv.Itoa(i)
		k.lanes[i] = laneKeys{
			hash: hash, messages: hash + ":messages", states: hash + ":states",
			due: hash + ":due", droppable: hash + ":droppable",
		}
	}
}

// appendLane appends the keys of a lane in the order that include/state.lua
// knows.
func (k *keys) appendLane(names []string, lane int) []string {
	l := &k.lanes[lane]
	return append(names, l.hash, l.messages, l.states, l.due, l.droppable)
}

// settling are the keys of the scripts that take messages out of a lane.
func (k *keys) settling(lane int) []string {
	return append(k.appendLane(make([]string, 0, 11), lane), k.ids, k.totals, k.dead, k.fates, k.gave, k.latest)
}

// session is the key of an MQTT session.
func (k *keys) session(clientID string) string { return k.tag + "session:" + hashed(clientID) }

// hashed is a name of fixed length for one that came from outside.
func hashed(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}
