package failpoint

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The environment variables.
const (
	Variable       = "ONCEMQ_FAILPOINT"
	MutantVariable = "ONCEMQ_MUTANT"
)

// ErrInjected is what an error of a failpoint wraps.
var ErrInjected = errors.New("injected failure")

// Action is what happens at a point.
type Action byte

// The actions.
const (
	Exit Action = iota + 1
	Panic
	Sleep
	Error
)

// Plan is one point, the hit that counts, and what happens then.
type Plan struct {
	Point  Point
	Hit    int64 // from 1
	Action Action
	Sleep  time.Duration
}

// Parse reads a plan: point, hit and action, separated by colons. Its errors name
// the part that is wrong.
func Parse(text string) (Plan, error) {
	fail := func(format string, args ...any) (Plan, error) {
		return Plan{}, fmt.Errorf("%s %q: %s", Variable, text, fmt.Sprintf(format, args...))
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return fail("write point:hit:action, such as relay-after-ack:1:exit")
	}
	p := Plan{Point: Point(parts[0])}
	if !known(Points(), p.Point) {
		return fail("point %q is unknown", parts[0])
	}
	var err error
	if p.Hit, err = strconv.ParseInt(parts[1], 10, 64); err != nil || p.Hit < 1 {
		return fail("hit %q is not a number from 1 on", parts[1])
	}
	name, argument, _ := strings.Cut(parts[2], "=")
	switch name {
	case "exit":
		p.Action = Exit
	case "panic":
		p.Action = Panic
	case "error":
		p.Action = Error
	case "sleep":
		p.Action = Sleep
		if p.Sleep, err = time.ParseDuration(argument); err != nil || p.Sleep <= 0 {
			return fail("sleep %q is not a duration, such as 5s", argument)
		}
	default:
		return fail("action %q is unknown; use exit, panic, sleep=DURATION or error", parts[2])
	}
	return p, nil
}

// ParseMutant reads the name of a rule.
func ParseMutant(text string) (Rule, error) {
	if !known(Rules(), Rule(text)) {
		return "", fmt.Errorf("%s: rule %q is unknown", MutantVariable, text)
	}
	return Rule(text), nil
}
