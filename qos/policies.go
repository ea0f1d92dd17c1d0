package qos

import (
	"errors"
	"strconv"
	"strings"
)

// MaxRules is how many rules a list may have. Each message may be compared with
// every one of them.
const MaxRules = 1000

// Rule is the policy of the topics that a filter matches.
type Rule struct {
	// Filter is a topic filter without $share.
	Filter string
	Policy Policy
}

// Policies are the policies of all topics. The zero value gives every message
// the default policy.
type Policies struct {
	// Rules are in order: the first whose filter matches a topic decides.
	Rules []Rule
	// Default is the policy of the topics that no rule matches. It has no
	// influence on the others.
	Default Policy
}

// For is the policy of a topic, with its zero fields replaced by the defaults
// that they stand for; Level stays nil, and Expiry zero, where the policy leaves
// them so. It allocates nothing, and compares the topic with one filter after
// the other: some twenty nanoseconds each.
func (p *Policies) For(topic string) Policy {
	for i := range p.Rules {
		if Match(p.Rules[i].Filter, topic) {
			return p.Rules[i].Policy.withDefaults()
		}
	}
	return p.Default.withDefaults()
}

// Validate reports every fault at once: each is a [*FieldError] that wraps
// [ErrInvalid] and names its place ("rules[2].backoff.max"), joined with
// errors.Join. Besides the faults of each policy these are a filter that is not
// valid, or has $share in front, or stands twice, and a rule that no topic can
// reach because an earlier one takes them all. It changes nothing.
func (p *Policies) Validate() error {
	var errs []error
	index := func(rule int) string { return "rules[" + strconv.Itoa(rule) + "]" }
	p.eachFault(index, func(rule int, f *FieldError) {
		field := f.Field
		switch {
		case rule >= 0:
			field = index(rule) + "." + field
		case rule == defaultPolicy:
			field = "default." + field
		}
		errs = append(errs, &FieldError{field, f.Problem})
	})
	return errors.Join(errs...)
}

// Places of a fault that are no rule's index.
const (
	defaultPolicy = -1
	wholeList     = -2
)

// eachFault reports every fault with the index of its rule, or one of the
// places above. The function place names a rule in the words of a problem.
func (p *Policies) eachFault(place func(rule int) string, report func(rule int, f *FieldError)) {
	if len(p.Rules) > MaxRules {
		report(wholeList, &FieldError{"rules", tooManyRules(len(p.Rules))})
		return
	}
	filters := filterList{rules: p.Rules, place: place, first: make(map[string]int, len(p.Rules))}
	for i := range p.Rules {
		if problem := filters.add(i); problem != "" {
			report(i, &FieldError{"filter", problem})
		}
		for _, f := range p.Rules[i].Policy.faults() {
			report(i, f)
		}
	}
	for _, f := range p.Default.faults() {
		report(defaultPolicy, f)
	}
}

// filterList are the filters of the rules so far.
type filterList struct {
	rules []Rule
	place func(rule int) string
	// A later filter is compared with the first rule of each filter, and with
	// those that take more topics than one.
	first map[string]int
	wild  []int
}

// add looks at the filter of rule i, and returns what is wrong with it or "".
func (l *filterList) add(i int) string {
	filter := l.rules[i].Filter
	if strings.HasPrefix(filter, sharePrefix) {
		return quote(filter) + " is a shared subscription's; a policy is for topics: leave out $share/ and the name"
	}
	if problem := filterProblem(filter); problem != "" {
		return problem
	}
	if j, twice := l.first[filter]; twice {
		return quote(filter) + " stands in " + l.place(j) + " already; keep one of them"
	}
	for _, j := range l.wild {
		if covers(l.rules[j].Filter, filter) {
			return quote(filter) + " is never reached, since " + quote(l.rules[j].Filter) + " in " + l.place(j) +
				" takes all its topics; put the narrower filter first"
		}
	}
	l.first[filter] = i
	if strings.ContainsAny(filter, "+#") {
		l.wild = append(l.wild, i)
	}
	return ""
}

func tooManyRules(n int) string {
	return strconv.Itoa(n) + " rules are too many; write at most " + strconv.Itoa(MaxRules) + ", with wildcards in their filters"
}
