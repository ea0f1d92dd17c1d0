package qos

// Match tells whether a message of topic belongs to a subscription of filter
// (MQTT 5, section 4.7). a/# matches a as well as everything below it; the
// wildcards # and + at the first level do not match a topic that begins with $
// [MQTT-4.7.2-1]; and $share/<name>/ in front of a filter does not matter.
//
// Both must be valid, or the answer means nothing. Match allocates nothing and
// takes time in proportion to their lengths.
func Match(filter, topic string) bool {
	_, filter, _ = SplitShared(filter)
	return filter != "" && topic != "" && covers(filter, topic)
}

// covers tells whether a filter takes all topics that another filter takes, or
// the one topic that other is. Neither is empty or has $share.
func covers(filter, other string) bool {
	if other[0] == '$' && (filter[0] == '#' || filter[0] == '+') { // [MQTT-4.7.2-1]
		return false
	}
	// No topic is empty, so that these # stand for one level at least.
	switch other {
	case "#":
		other = "+/#"
	case "/#":
		other = "/+/#"
	}
	o := 0 // other[:o] is taken
	for f := range len(filter) {
		switch c := filter[f]; {
		case c == '#': // the last level
			return true
		case c == '+': // a whole level, which other's # may be more than
			if o < len(other) && other[o] == '#' {
				return false
			}
			for o < len(other) && other[o] != '/' {
				o++
			}
		case o == len(other):
			return filter[f:] == "/#" // the parent itself
		case c != other[o]:
			return false
		default:
			o++
		}
	}
	return o == len(other)
}
