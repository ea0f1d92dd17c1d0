package sqlite

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/oncemq/oncemq/persist"
)

// Whatever a URL says, it names a file or is refused in one line.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		"sqlite:///a.db", "sqlite:a.db?lanes=4&max_messages=9&busy_timeout=5s&synchronous=normal&prefix=p", "sqlite::memory:",
		"sqlite:///a%00b", "sqlite://u:p@h/a", "sqlite:a?lanes=1&lanes=2", "sqlite:%zz", "sqlite:a#b", "sqlite:///", "sqlite:a?prefix=%22;",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		path, _, err := parseURL(u)
		switch {
		case err == nil && (path == "" || strings.ContainsRune(path, 0)):
			t.Errorf("%q: path %q", raw, path)
		case err == nil:
		case !errors.Is(err, persist.ErrInvalid):
			t.Errorf("%q: %v", raw, err)
		case strings.ContainsAny(err.Error(), "\n\r\x00\x1b"):
			t.Errorf("%q: not one line: %q", raw, err)
		}
	})
}
