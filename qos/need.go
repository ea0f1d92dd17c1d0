package qos

import (
	"errors"
	"slices"
	"strconv"
	"time"
)

// Need is what the messages of a topic need, in words that say nothing of MQTT.
// [Advise] makes policies of needs.
type Need struct {
	// Filter is a topic filter without $share.
	Filter string
	// LossTolerable tells that a message may get lost: the next one makes up for
	// it. False, the default, asks for every message.
	LossTolerable bool
	// DuplicatesTolerable tells that a message may be processed twice without
	// harm. False, the default, asks for once.
	DuplicatesTolerable bool
	// Rate is how many messages a second are expected, all topics of the filter
	// together. Zero, the default, means not known: few.
	Rate float64
}

// Advice is the policy for a need, and why.
type Advice struct {
	Need   Need
	Policy Policy
	// Reasons are sentences for whoever reads the policy: why it is so, and what
	// else is to be done for it, at the subscriber for one.
	Reasons []string
}

const (
	// fewMessages is up to which rate QoS 2 is advised: its second round trip and
	// second commit for each message are then of no matter.
	fewMessages = 100
	// adviseExpiry is how long what may get lost is worth sending.
	adviseExpiry = 5 * time.Minute
	// maxRate keeps a rate from being mistaken for a number of messages a day.
	maxRate = 1e6
)

// Advise makes a policy for each need, the narrower filters first, so that the
// list can be used as the rules of [Policies]: the first rule whose filter matches
// decides. Otherwise the order is that of the needs.
//
// The error lists every fault, each as a [*FieldError] that wraps [ErrInvalid] and
// names its place ("topics[2].filter"): a filter that is not valid or stands twice,
// a rate that is out of range.
func Advise(needs []Need) ([]Advice, error) {
	if err := validateNeeds(needs); err != nil {
		return nil, err
	}
	advice := make([]Advice, 0, len(needs))
	for _, n := range needs {
		// Before the first that takes all its topics.
		at := slices.IndexFunc(advice, func(a Advice) bool { return covers(a.Need.Filter, n.Filter) })
		if at < 0 {
			at = len(advice)
		}
		advice = slices.Insert(advice, at, adviseOne(n))
	}
	return advice, nil
}

// AdvisedPolicies are the rules of advice, with the default policy for all other
// topics.
func AdvisedPolicies(advice []Advice) Policies {
	p := Policies{Rules: make([]Rule, len(advice))}
	for i, a := range advice {
		p.Rules[i] = Rule{a.Need.Filter, a.Policy}
	}
	return p
}

func adviseOne(n Need) Advice {
	a := Advice{Need: n}
	level := AtLeastOnce
	switch {
	case n.LossTolerable:
		level = AtMostOnce
		a.Policy.WhenFull, a.Policy.Expiry = DropOldest, adviseExpiry
		a.because("A message may get lost: QoS 0 costs one packet and no acknowledgement, and loses what is on its way when a connection ends.")
		a.because("In a long outage the oldest give way, and what is older than " + adviseExpiry.String() + " is not sent.")
	case n.DuplicatesTolerable:
		a.because("None may get lost, some may come twice: QoS 1 is sent until it is acknowledged.")
	case n.Rate <= fewMessages:
		level = ExactlyOnce
		a.because("None may get lost or come twice, and they are few: QoS 2 costs a second round trip, and is exactly once while the broker keeps the session.")
	default:
		a.because("None may get lost or come twice, at " + formatFloat(n.Rate) + " a second: QoS 1 with dedup at the subscriber does it at half the round trips of QoS 2.")
	}
	if !n.DuplicatesTolerable {
		a.because("A crash can send a message again at any level, under the same message ID: subscribe with a group and a store, which recognise it.")
	}
	if !n.LossTolerable {
		a.because("A broker that forgets what it has acknowledged loses it at any level: add receipt: true if every subscriber answers with receipts.")
	}
	a.Policy.Level = &level
	return a
}

func (a *Advice) because(sentence string) { a.Reasons = append(a.Reasons, sentence) }

// validateNeeds reports every fault.
func validateNeeds(needs []Need) error {
	var errs []error
	index := func(i int) string { return "topics[" + strconv.Itoa(i) + "]" }
	eachNeedFault(needs, index, func(i int, f *FieldError) {
		field := f.Field
		if i >= 0 {
			field = index(i) + "." + field
		}
		errs = append(errs, &FieldError{field, f.Problem})
	})
	return errors.Join(errs...)
}

// eachNeedFault reports every fault with the index of its need, or wholeList. The
// function place names a need in the words of a problem.
func eachNeedFault(needs []Need, place func(int) string, report func(i int, f *FieldError)) {
	if len(needs) > MaxRules {
		report(wholeList, &FieldError{"topics", strconv.Itoa(len(needs)) + " topics are too many; write at most " +
			strconv.Itoa(MaxRules) + ", with wildcards in their filters"})
		return
	}
	first := make(map[string]int, len(needs))
	for i, n := range needs {
		_, _, shared := SplitShared(n.Filter)
		j, twice := first[n.Filter]
		switch problem := filterProblem(n.Filter); {
		case shared:
			report(i, &FieldError{"filter", quote(n.Filter) + " is a shared subscription's; a policy is for topics: leave out $share/ and the name"})
		case problem != "":
			report(i, &FieldError{"filter", problem})
		case twice:
			report(i, &FieldError{"filter", quote(n.Filter) + " stands in " + place(j) + " already; keep one of them"})
		default:
			first[n.Filter] = i
		}
		if !(n.Rate >= 0 && n.Rate <= maxRate) { // NaN as well
			report(i, &FieldError{"rate", formatFloat(n.Rate) + " is out of range; write the messages a second, 0 to 1000000"})
		}
	}
}
