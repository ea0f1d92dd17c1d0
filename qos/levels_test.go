package qos

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseLevel(t *testing.T) {
	t.Parallel()
	for i, want := range []Level{AtMostOnce, AtLeastOnce, ExactlyOnce} {
		got, err := ParseLevel(want.String())
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.EqualValues(t, i, got, "the number on the wire")
	}
	for _, s := range []string{"", "3", "-1", "00", "+1", " 1", "1 ", "0x1", "one", "١"} {
		_, err := ParseLevel(s)
		requireFieldError(t, err, "level", "write 0, 1 or 2")
	}
}

func TestLevelValid(t *testing.T) {
	t.Parallel()
	for l := range 256 {
		require.Equal(t, l <= 2, Level(l).Valid(), l)
	}
}

// requireFieldError demands one FieldError of the field whose problem has the
// fragment, in one printable line.
func requireFieldError(t *testing.T, err error, field, fragment string) {
	t.Helper()
	require.ErrorIs(t, err, ErrInvalid)
	var fe *FieldError
	require.ErrorAs(t, err, &fe)
	require.Equal(t, field, fe.Field)
	require.Contains(t, fe.Problem, fragment)
	require.Equal(t, printable(err.Error()), err.Error(), "one printable line of bounded length")
}
