package brokertest

import "strings"

// Matches tells whether a topic filter selects a topic name (MQTT 5, 4.7).
func Matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "#") || strings.HasPrefix(filter, "+")) {
		return false // [MQTT-4.7.2-1]
	}
	for {
		f, filterRest, moreFilter := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, topicRest, moreTopic := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !moreTopic {
			// "sport/#" selects "sport" too.
			return !moreFilter || filterRest == "#"
		}
		if !moreFilter {
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

// splitShare takes "$share/group/filter" apart; group is "" for others.
func splitShare(filter string) (group, rest string) {
	if after, ok := strings.CutPrefix(filter, "$share/"); ok {
		if group, rest, ok = strings.Cut(after, "/"); ok {
			return group, rest
		}
	}
	return "", filter
}

// validFilter tells whether a filter is well formed [MQTT-4.7.1-1],
// [MQTT-4.7.1-2], [MQTT-4.8.2-1].
func validFilter(filter string) bool {
	if strings.HasPrefix(filter, "$share/") {
		group, rest := splitShare(filter)
		if group == "" || rest == "" || strings.ContainsAny(group, "+#") {
			return false
		}
		filter = rest
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && len(level) > 1 {
			return false
		}
		if level == "#" && i < len(levels)-1 {
			return false
		}
	}
	return filter != ""
}
