package qos

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidateTopic(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", MaxStringLength)
	for _, topic := range []string{
		"a", "/", "//", "a/b", "/finance", "a b", "Accounts payable", "$SYS/broker", "$share/g/x", "$",
		"温度/ß", "\U0010FFFF", "\U0001F600", longest,
		// Advised against and not forbidden (section 1.5.4).
		"\ufeff", "\ufffe", "\uffff", "\ufdd0", "a\nb", "\x01", "\u007f", "\u0085", "\ufffd",
	} {
		require.NoError(t, ValidateTopic(topic), "%.40q", topic)
	}
	for topic, problem := range map[string]string{
		"":                           "is empty",
		"#":                          "wildcard # at byte 0",
		"a/#":                        "wildcard # at byte 2",
		"a/+/b":                      "wildcard + at byte 2",
		"a+":                         "wildcard + at byte 1",
		"\x00":                       "U+0000 at byte 0",
		"a\x00b":                     "U+0000 at byte 1",
		"a\xff":                      "not UTF-8 from byte 1",
		"\xed\xa0\x80":               "not UTF-8 from byte 0", // U+D800
		"ok\xc0\x80":                 "not UTF-8 from byte 2", // U+0000, overlong
		"\xf4\x90\x80\x80":           "not UTF-8 from byte 0", // U+110000
		"a/\xe6\xb8":                 "not UTF-8 from byte 2", // cut short
		longest + "x":                "has 65536 bytes",
		strings.Repeat("é", 1<<20):   "has 2097152 bytes",
		"\x1b[31m\u202eevil\r\n/+/x": "wildcard + at byte",
	} {
		requireFieldError(t, ValidateTopic(topic), "topic", problem)
	}
}

func TestValidateFilter(t *testing.T) {
	t.Parallel()
	share := "$share/g/"
	for _, filter := range []string{
		"a", "#", "+", "/", "/#", "+/#", "a/#", "a/+", "+/+", "a/+/b/#", "/+", "+/", "//", "$SYS/#", "$share", "$shared/x",
		"sport/tennis/player1/#", share + "#", share + "a/+/b", share + "/finance", "$share/ /+", "$share/温度/#", share + "$SYS/#",
		share + strings.Repeat("x", MaxStringLength-len(share)),
	} {
		require.NoError(t, ValidateFilter(filter), "%.40q", filter)
	}
	for filter, problem := range map[string]string{
		"":                    "is empty",
		"##":                  "# at byte 0",
		"a#":                  "# at byte 1",
		"#/a":                 "# at byte 0",
		"sport/tennis#":       "# at byte 12",
		"sport/tennis/#/rank": "# at byte 13",
		"+#":                  "# at byte 1",
		"#+":                  "# at byte 0",
		"a+":                  "+ at byte 1",
		"+a":                  "+ at byte 0",
		"+/a+/b":              "+ at byte 3",
		"++":                  "+ at byte 0",
		"sport+/#":            "+ at byte 5",
		"a\x00":               "U+0000 at byte 1",
		"a/\xff/#":            "not UTF-8 from byte 2",
		"$share/":             "share name is empty",
		"$share//":            "share name is empty",
		"$share//x":           "share name is empty",
		"$share/g":            "no filter after the share name",
		"$share/g/":           "no filter after the share name",
		"$share/+/x":          "has /, + or # in it",
		"$share/a#/x":         "has /, + or # in it",
		"$share/g/a#":         "# at byte 10",
		"$share/g/#/a":        "# at byte 9",
		"$share/g/a+/b":       "+ at byte 10",
		strings.Repeat("+/", MaxStringLength/2) + "#/": "has 65536 bytes",
	} {
		requireFieldError(t, ValidateFilter(filter), "filter", problem)
	}
}

func TestValidateStringAndBinary(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("é", MaxStringLength/2) + "x"
	require.Len(t, longest, MaxStringLength)
	require.NoError(t, ValidateString("content type", ""))
	require.NoError(t, ValidateString("content type", longest))
	require.NoError(t, ValidateBinary("correlation data", nil))
	require.NoError(t, ValidateBinary("correlation data", bytes.Repeat([]byte{0}, MaxStringLength)))

	requireFieldError(t, ValidateString("content type", longest+"x"), "content type", "has 65536 bytes")
	requireFieldError(t, ValidateString("user property", "secret\x00"), "user property", "U+0000 at byte 6")
	requireFieldError(t, ValidateString("user property", "secret\x80"), "user property", "not UTF-8 from byte 6")
	requireFieldError(t, ValidateBinary("correlation data", make([]byte, MaxStringLength+1)), "correlation data", "has 65536 bytes")
	require.NotContains(t, ValidateString("user property", "secret\x00").Error(), "secret")
}

func TestSplitShared(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, group, rest string
		ok                  bool
	}{
		{"$share/g/a/#", "g", "a/#", true},
		{"$share/g//finance", "g", "/finance", true},
		{"$share/g/$SYS/#", "g", "$SYS/#", true},
		{"$share/g/", "", "$share/g/", false},
		{"$share/g", "", "$share/g", false},
		{"$share//a", "", "$share//a", false},
		{"$share/+/a", "", "$share/+/a", false},
		{"$shared/g/a", "", "$shared/g/a", false},
		{"a/$share/g", "", "a/$share/g", false},
		{"", "", "", false},
	} {
		group, rest, ok := SplitShared(c.filter)
		require.Equal(t, c.group, group, c.filter)
		require.Equal(t, c.rest, rest, c.filter)
		require.Equal(t, c.ok, ok, c.filter)
	}
}

func TestJoinShared(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{"a/#", "/finance", "+", "$SYS/#"} {
		joined, err := JoinShared("workers", filter)
		require.NoError(t, err)
		require.NoError(t, ValidateFilter(joined))
		group, rest, ok := SplitShared(joined)
		require.True(t, ok)
		require.Equal(t, "workers", group)
		require.Equal(t, filter, rest)
	}
	for _, c := range []struct{ group, filter, field, problem string }{
		{"", "a", "group", "is empty"},
		{"a/b", "c", "group", "has /, + or # in it"}, // else group a, filter b/c
		{"a+", "c", "group", "has /, + or # in it"},
		{"a\x00", "c", "group", "U+0000"},
		{"g", "", "filter", "is empty"},
		{"g", "a#", "filter", "# at byte 1"},
		{"g", "$share/h/a", "filter", "names a group already"},
		{"g", strings.Repeat("x", MaxStringLength), "filter", "has 65544 bytes"},
	} {
		_, err := JoinShared(c.group, c.filter)
		requireFieldError(t, err, c.field, c.problem)
	}
}

// validText is the slow reference of what may be in a UTF-8 string: RFC 3629
// read bit by bit, and section 1.5.4.
func validText(s string) bool {
	if len(s) > 65535 {
		return false
	}
	b := []byte(s)
	for len(b) > 0 {
		var size int
		var r, least rune
		switch {
		case b[0]>>7 == 0b0:
			size, r, least = 1, rune(b[0]), 0
		case b[0]>>5 == 0b110:
			size, r, least = 2, rune(b[0]&0b1_1111), 0x80
		case b[0]>>4 == 0b1110:
			size, r, least = 3, rune(b[0]&0b1111), 0x800
		case b[0]>>3 == 0b1_1110:
			size, r, least = 4, rune(b[0]&0b111), 0x1_0000
		default:
			return false
		}
		if len(b) < size {
			return false
		}
		for _, c := range b[1:size] {
			if c>>6 != 0b10 {
				return false
			}
			r = r<<6 | rune(c&0b11_1111)
		}
		if r < least || r > 0x10_FFFF || r >= 0xD800 && r <= 0xDFFF || r == 0 {
			return false
		}
		b = b[size:]
	}
	return true
}

func validTopicReference(topic string) bool {
	return topic != "" && validText(topic) && !strings.Contains(topic, "#") && !strings.Contains(topic, "+")
}

func validFilterReference(filter string) bool {
	if !validText(filter) {
		return false
	}
	levels := strings.Split(filter, "/")
	if levels[0] == "$share" && len(levels) > 1 {
		name := levels[1]
		if name == "" || strings.Contains(name, "+") || strings.Contains(name, "#") {
			return false
		}
		levels = levels[2:]
	}
	if strings.Join(levels, "/") == "" {
		return false
	}
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) {
			return false
		}
		if strings.Contains(level, "+") && level != "+" {
			return false
		}
	}
	return true
}

func FuzzValidate(f *testing.F) {
	for _, s := range []string{
		"", "a", "a/#", "+", "#", "a/+/b", "a+", "$share/g/a", "$share/g/", "$share//", "$share/+/a", "$share",
		"\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "a\x00", "\xff", "温度/#", "/", "//", "$SYS/#", "+/+/#", "#/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		check := func(err error, valid bool) {
			t.Helper()
			if (err == nil) != valid {
				t.Fatalf("%q: %v, and the reference says valid: %t", s, err, valid)
			}
			if err != nil && (len(err.Error()) > 700 || printable(err.Error()[:min(len(err.Error()), 200)]) == "") {
				t.Fatalf("%q: unfit error %q", s, err)
			}
		}
		check(ValidateTopic(s), validTopicReference(s))
		check(ValidateFilter(s), validFilterReference(s))
		check(ValidateString("field", s), validText(s))
		group, rest, ok := SplitShared(s)
		if ok && sharePrefix+group+"/"+rest != s || !ok && rest != s {
			t.Fatalf("SplitShared(%q) = %q, %q, %t", s, group, rest, ok)
		}
		if joined, err := JoinShared("g", s); err == nil {
			if _, rest, _ := SplitShared(joined); rest != s {
				t.Fatalf("JoinShared(%q) = %q", s, joined)
			}
		} else if validFilterReference(s) && !strings.HasPrefix(s, sharePrefix) && len(s) <= 65535-len("$share/g/") {
			t.Fatalf("JoinShared(%q): %v", s, err)
		}
	})
}

func TestValidateAllocatesNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	topic := "site/berlin/line/7/温度"
	for name, f := range map[string]func() error{
		"topic":         func() error { return ValidateTopic(topic) },
		"filter":        func() error { return ValidateFilter("site/+/line/+/#") },
		"shared filter": func() error { return ValidateFilter("$share/workers/site/+/line/+/#") },
		"string":        func() error { return ValidateString("content type", "application/json") },
	} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if f() != nil {
				panic("invalid")
			}
		}), name)
	}
}

func BenchmarkValidateTopic(b *testing.B) {
	for _, c := range []struct{ name, topic string }{
		{"ascii", "site/berlin/line/7/machine/42/temperature"},
		{"utf8", "ort/köln/linie/7/maschine/42/温度"},
		{"longest", strings.Repeat("x", MaxStringLength)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := ValidateTopic(c.topic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
