package qos

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	require.Equal(t, `"a/#"`, quote("a/#"))
	require.Equal(t, `"\x00\x1b\u202e\xff"`, quote("\x00\x1b\u202e\xff"))
	require.Equal(t, `"`+strings.Repeat("x", 64)+`"`, quote(strings.Repeat("x", 64)))
	require.Equal(t, `"`+strings.Repeat("x", 64)+`"… (65 bytes)`, quote(strings.Repeat("x", 65)))
	require.Equal(t, `"x`+strings.Repeat("é", 31)+`"… (65 bytes)`, quote("x"+strings.Repeat("é", 32)), "cut at a character")
}

func TestCut(t *testing.T) {
	t.Parallel()
	const s = "a\u00e9\u6e29\U0001F600"
	for limit := range len(s) + 1 {
		got := cut(s, limit)
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), limit)
		require.Greater(t, len(got)+utf8.UTFMax, limit, "no more than one character is given up")
		require.True(t, strings.HasPrefix(s, got))
	}
	require.Len(t, cut(strings.Repeat("\x80", 100), 50), 50, "not UTF-8 is cut all the same")
	require.Empty(t, cut("\x80\x80", 0))
}
