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

// Overlap tells whether a topic can match both of two filters; $share/<name>/ in
// front does not matter. Both must be valid, or the answer means nothing. It
// allocates nothing.
func Overlap(a, b string) bool {
	_, a, _ = SplitShared(a)
	_, b, _ = SplitShared(b)
	if a == "" || b == "" {
		return false
	}
	wild := func(f string) bool { return f[0] == '#' || f[0] == '+' }
	if a[0] == '$' && wild(b) || b[0] == '$' && wild(a) { // [MQTT-4.7.2-1]
		return false
	}
	for first := true; ; first = false {
		x, moreA, endA := level(a)
		y, moreB, endB := level(b)
		switch {
		case x == "#" || y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case endA && endB:
			return true
		case endA: // # takes the parent itself, which no empty topic is
			return moreB == "#" && (!first || y != "")
		case endB:
			return moreA == "#" && (!first || x != "")
		}
		a, b = moreA, moreB
	}
}

// level cuts the first level off a filter.
func level(filter string) (first, rest string, last bool) {
	for i := range len(filter) {
		if filter[i] == '/' {
			return filter[:i], filter[i+1:], false
		}
	}
	return filter, "", true
}
