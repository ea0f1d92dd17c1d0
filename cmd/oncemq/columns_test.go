package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestColumns: names and values, and tables, side by side and below each other.
func TestColumns(t *testing.T) {
	t.Parallel()
	const long = "a value of several words that is broken into lines"
	for width, want := range map[int]string{
		0:  "name         1\nlonger name  " + long + "\n             b\ufffd\n",
		45: "name         1\nlonger name  a value of several words that is\n             broken into lines\n             b\ufffd\n",
		40: "name         1\nlonger name\n  a value of several words that is\n  broken into lines\n             b\ufffd\n",
		12: "name\n  1\nlonger name\n  a value of\n  several\n  words that\n  is broken\n  into lines\n  b\ufffd\n",
	} {
		r := rows{width: width}
		r.add("name", 1)
		r.add("longer name", long)
		r.add("", "b\x1b")
		require.Equal(t, want, r.String(), width)
	}
	for width, want := range map[int]string{
		0:  "N  TOPIC    REASON\n1  a/topic  -\n",
		18: "N  TOPIC    REASON\n1  a/topic  -\n",
		17: "n      1\ntopic  a/topic\n\n",
	} {
		g := grid{width: width, heads: []string{"N", "TOPIC", "REASON"}}
		g.line(1, "a/topic", "-")
		require.Equal(t, want, g.String(), width)
	}
	require.Equal(t, "as it is\n", reflow("as it is\n", 8))
	require.Equal(t, "as\n  it\n  is\nno\n", reflow("as it is\nno\n", 4))
	// Longer than a line, and of more bytes than characters.
	text := table{width: 6}
	text.line("", strings.Repeat("äö", 4)+" x", 2)
	require.Equal(t, "äöäö\n  äöäö\n  x\n", text.b.String())
}

// TestGridPages: a long table is written page by page.
func TestGridPages(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	g := newGrid(&b, "N")
	require.NoError(t, g.flush())
	require.Empty(t, b.String(), "a table without lines has no head")
	for i := range gridPage + 1 {
		require.NoError(t, g.add(i))
	}
	require.Equal(t, gridPage+1, strings.Count(b.String(), "\n"))
	require.NoError(t, g.flush())
	require.Equal(t, gridPage+3, strings.Count(b.String(), "\n"))
}
