package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The functions here are the set functions of options. Their errors say what is
// wrong and what would be right, without the option's name.

func text(dst *string) func(string) error {
	return func(s string) error {
		*dst = s
		return nil
	}
}

// name is a text that must not be empty.
func name(dst *string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("is empty")
		}
		*dst = s
		return nil
	}
}

// list appends: for options that may be given several times.
func list(dst *[]string) func(string) error {
	return func(s string) error {
		*dst = append(*dst, s)
		return nil
	}
}

// on is a switch.
func on(dst *bool) func(string) error {
	return func(s string) error {
		switch strings.ToLower(s) {
		case "true", "1", "yes", "on":
			*dst = true
		case "false", "0", "no", "off":
			*dst = false
		default:
			return fmt.Errorf("%q is neither true nor false", redacted(s))
		}
		return nil
	}
}

// number takes a whole number from low to high.
func number(dst *int, low, high int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		switch {
		case err != nil && !errors.Is(err, strconv.ErrRange):
			return fmt.Errorf("%q is not a whole number", redacted(s))
		case err != nil || n < low || n > high:
			return fmt.Errorf("%s is out of range; use %d to %d", s, low, high)
		}
		*dst = n
		return nil
	}
}

// level takes a QoS level.
func level(dst *byte) func(string) error {
	return func(s string) error {
		if len(s) != 1 || s[0] < '0' || s[0] > '2' {
			return fmt.Errorf("%s is not a level; use 0, 1 or 2", shown(s))
		}
		*dst = s[0] - '0'
		return nil
	}
}

// levels are the levels of QoS.
func levels() []string { return []string{"0", "1", "2"} }

// seedOf takes the number of a random sequence.
func seedOf(dst **uint64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%s is not a seed; use a whole number from 0 up", shown(s))
		}
		*dst = &n
		return nil
	}
}

// percent takes a part of all, in percent.
func percent(dst *float64) func(string) error {
	return func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= 0.1 && f <= 100) { // so that NaN is refused as well
			return fmt.Errorf("%s is not a percentage; use 0.1 to 100", shown(s))
		}
		*dst = f
		return nil
	}
}

// oneOf takes one of several words.
func oneOf(dst *string, words ...string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				*dst = s
				return nil
			}
		}
		last := len(words) - 1
		return fmt.Errorf("%q is not a choice; use %s or %s", redacted(s), strings.Join(words[:last], ", "), words[last])
	}
}

// span takes seconds, as mosquitto's options do, or a duration with a unit.
func span(dst *time.Duration) func(string) error {
	return func(s string) error {
		d, err := parseSpan(s)
		if err != nil {
			return err
		}
		*dst = d
		return nil
	}
}

// positiveSpan is span without zero, for what has a default other than that.
func positiveSpan(dst *time.Duration) func(string) error {
	return func(s string) error {
		d, err := parseSpan(s)
		if err == nil && d == 0 {
			err = errors.New("is zero; use a time above it")
		}
		if err != nil {
			return err
		}
		*dst = d
		return nil
	}
}

// wholeSpan is span, in whole seconds from low to high.
func wholeSpan(dst *time.Duration, low, high int) func(string) error {
	return func(s string) error {
		d, err := parseSpan(s)
		if err != nil {
			return err
		}
		seconds := d / time.Second
		if d%time.Second != 0 || seconds < time.Duration(low) || seconds > time.Duration(high) {
			return fmt.Errorf("%s is out of range; use whole seconds, %d to %d", s, low, high)
		}
		*dst = d
		return nil
	}
}

// moment takes a time with its day and its zone.
func moment(dst *time.Time) func(string) error {
	return func(s string) error {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return fmt.Errorf("%s is not a moment; write one such as 2030-01-31T08:00:00Z or 2030-01-31T08:00:00+01:00", shown(s))
		}
		*dst = t
		return nil
	}
}

// parseSpan reads "30", "0.5", "30s" or "1h30m". It is never negative.
func parseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		seconds, ferr := strconv.ParseFloat(s, 64)
		if ferr != nil || math.IsNaN(seconds) || math.IsInf(seconds, 0) || math.Abs(seconds) > math.MaxInt64/1e9-1 {
			return 0, fmt.Errorf("%s is not a duration; write seconds, or a number with a unit such as 500ms, 30s, 5m or 24h", shown(s))
		}
		d = time.Duration(math.Round(seconds * float64(time.Second)))
	}
	if d < 0 || strings.HasPrefix(s, "-") && d != 0 {
		return 0, fmt.Errorf("%s is negative; use zero or more", s)
	}
	return d, nil
}

// shown is a value in an error message: quoted and cut.
func shown(s string) string {
	const most = 60
	s = redacted(s)
	if len(s) > most {
		return strconv.Quote(strings.ToValidUTF8(s[:most], "")) + "…"
	}
	if _, err := strconv.Atoi(s); err == nil {
		return s
	}
	return strconv.Quote(s)
}

// redacted is a value without what may be credentials in it: what stands between :// and
// the last @ of a URL, wherever the URL begins.
func redacted(s string) string {
	const before = "://"
	begin := strings.Index(s, before)
	end := strings.LastIndex(s, "@")
	if begin < 0 || end < begin+len(before) {
		return s
	}
	return s[:begin+len(before)] + "…" + s[end:]
}
