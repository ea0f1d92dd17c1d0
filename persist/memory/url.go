package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/oncemq/oncemq/persist"
)

// Driver opens "memory:" for persist.Open, each time as a new and empty store.
// The options of the URL are those of Options:
//
//	memory:?lanes=4&max_messages=100000
type Driver struct{}

var _ persist.Driver = Driver{}

// Schemes implements persist.Driver.
func (Driver) Schemes() []string { return []string{"memory"} }

// Open implements persist.Driver. The error wraps persist.ErrInvalid for a URL
// with more than a scheme and known options, and names all that is wrong.
func (Driver) Open(ctx context.Context, u *url.URL) (persist.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, &persist.Error{Op: "open", Object: "memory", Err: err}
	}
	opts, err := parse(u)
	if err != nil {
		return nil, &persist.Error{Op: "open", Object: "memory", Kind: persist.ErrInvalid, Err: err}
	}
	return New(opts), nil
}

// parse reads the options of a URL.
func parse(u *url.URL) (Options, error) {
	var opts Options
	if u.User != nil || u.Host != "" || u.Opaque != "" || u.Path != "" || u.Fragment != "" {
		// What stands there is not shown: it may be another store's password.
		return opts, errors.New("a memory store has no name or path; write memory: and, if need be, ?lanes=N&max_messages=N")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return opts, errors.New("the options cannot be parsed; write ?lanes=N&max_messages=N")
	}
	var faults faults
	var limits persist.Limits
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		if len(values) > 1 {
			faults.add("option %s is given %d times", name, len(values))
			continue
		}
		switch {
		case name == "lanes":
			n, err := strconv.Atoi(values[0])
			if err != nil || n < 1 || n > MaxLanes {
				faults.add("option lanes=%q must be a number from 1 to %d", values[0], MaxLanes)
			}
			opts.Lanes = n
		case slices.Contains(persist.LimitOptions(), name):
			if err := limits.Set(name, values[0]); err != nil {
				faults.add("option %s=%q must be %v", name, values[0], err)
			}
		default:
			faults.add("option %q is unknown; there are lanes, max_age, max_bytes and max_messages", name)
		}
	}
	opts.MaxMessages, opts.MaxBytes, opts.MaxAge = limits.Messages, limits.Bytes, limits.Age
	return opts, faults.err()
}

// faults collects what is wrong with a URL, for one line.
type faults []byte

func (f *faults) add(format string, args ...any) {
	if len(*f) > 0 {
		*f = append(*f, "; "...)
	}
	*f = fmt.Appendf(*f, format, args...)
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return errors.New(string(f))
}
