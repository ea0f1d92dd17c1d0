package redis

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/oncemq/oncemq/persist"
)

// Whatever a URL says, it is taken or refused in one line that shows no password.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		"redis://u:hunter2@h:6379/0?prefix=a&lanes=3", "rediss://h?skip_verify=true", "unix:///r.sock?db=1", "redis://h/x",
		"redis+sentinel://h:1,h2:2/m/0?sentinel_password=hunter2", "redis+cluster://h:1,h2:2", "redis://h?lanes=a", "redis://[::1",
		"redis://h?wait_replicas=1&wait_timeout=1s", "redis://h?prefix=%7D", "redis://h?dial_timeout=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		switch _, err = parseURL(u, &Options{}); {
		case err == nil:
		case !errors.Is(err, persist.ErrInvalid):
			t.Errorf("%q: %v", raw, err)
		case strings.ContainsAny(err.Error(), "\n\r\x00\x1b"):
			t.Errorf("%q: not one line: %q", raw, err)
		case strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%q: password in %q", raw, err)
		}
	})
}

// Rows as a script answers them, cut off or damaged anywhere, are read or refused.
func FuzzRows(f *testing.F) {
	state := strings.Repeat("\x00", stateHead)
	f.Add("1-2", "", "message", 1)
	f.Add("1-2-3-13 2-2-0-13", state+state, "message", 2)
	f.Add("1-2-3-13 2-2-0-14", state+state, "message", 2)
	f.Add("1-2-3--1 2", state, "", 3)
	f.Add("", "", "", 0)
	f.Fuzz(func(t *testing.T, heads, states, body string, n int) {
		rs := asRows([]any{heads, states, slices.Repeat([]any{body}, max(0, min(n, 100)))})
		for {
			left := len(rs.bodies)
			r, err := rs.next()
			if err != nil {
				return
			}
			if len(rs.bodies) >= left {
				t.Fatalf("%d messages became %d", left, len(rs.bodies))
			}
			_, _ = r.entry(0) // reads it or says why not
		}
	})
}
