package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestReadLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200_000)
	for name, test := range map[string]struct {
		in    string
		limit int
		want  []string
		err   string
	}{
		"nothing":             {"", 10, nil, ""},
		"one":                 {"a\n", 10, []string{"a"}, ""},
		"no newline":          {"a\nb", 10, []string{"a", "b"}, ""},
		"empty lines":         {"\n\n", 10, []string{"", ""}, ""},
		"at the limit":        {"12345\n", 5, []string{"12345"}, ""},
		"at the limit, last":  {"12345", 5, []string{"12345"}, ""},
		"over the limit":      {"a\n123456\nb\n", 5, []string{"a"}, "line 2 of standard input is longer than 5 bytes"},
		"over it, last":       {"123456", 5, nil, "line 1 of"},
		"longer than buffers": {long + "\n" + long + "\nx\n", 1 << 20, []string{long, long, "x"}, ""},
		"long, no newline":    {"x\n" + long, 1 << 20, []string{"x", long}, ""},
		"long at the limit":   {long + "\n", len(long), []string{long}, ""},
		"long over the limit": {long + "\n", len(long) - 1, nil, "line 1 of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, r := range map[string]io.Reader{
				"at once":  strings.NewReader(test.in),
				"in bits":  iotest.HalfReader(strings.NewReader(test.in)),
				"with EOF": iotest.DataErrReader(strings.NewReader(test.in)),
			} {
				var got []string
				err := readLines(r, test.limit, func(b []byte) error {
					got = append(got, string(b))
					return nil
				})
				require.Equal(t, test.want, got, kind)
				if test.err == "" {
					require.NoError(t, err, kind)
				} else {
					require.ErrorContains(t, err, test.err, kind)
				}
			}
		})
	}
}

func TestReadLinesError(t *testing.T) {
	t.Parallel()
	broken := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(errors.New("disk is gone")))
	var got []string
	err := readLines(broken, 10, func(b []byte) error {
		got = append(got, string(b))
		return nil
	})
	require.ErrorContains(t, err, "read standard input: disk is gone")
	require.Equal(t, []string{"a"}, got, "a line that was cut must not pass for one")
}

func FuzzReadLines(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"), 3)
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		limit = max(1, limit%100_000)
		var got [][]byte
		err := readLines(bytes.NewReader(in), limit, func(b []byte) error {
			if len(b) > limit || bytes.IndexByte(b, '\n') >= 0 {
				t.Fatalf("line %q", b)
			}
			got = append(got, bytes.Clone(b))
			return nil
		})
		joined := bytes.Join(got, []byte("\n"))
		switch {
		case err != nil:
			if !bytes.HasPrefix(in, joined) {
				t.Fatal("what was read is not the beginning of the input")
			}
		case !bytes.Equal(bytes.TrimSuffix(in, []byte("\n")), joined):
			t.Fatalf("input %q gave %q", in, got)
		}
	})
}

// TestGather: batches of any size, bounded, in order, and nothing is lost at the
// end or when it is stopped.
func TestGather(t *testing.T) {
	t.Parallel()
	g := newGather()
	var reading sync.WaitGroup
	const n = 5000
	reading.Go(func() {
		for i := range n {
			if g.put([]byte{byte(i), byte(i >> 8)}) != nil {
				t.Error("put was refused")
			}
		}
		g.end(nil)
	})
	next := 0
	for batch := g.take(); batch != nil; batch = g.take() {
		require.LessOrEqual(t, len(batch), batchSize)
		for _, p := range batch {
			require.Equal(t, []byte{byte(next), byte(next >> 8)}, p)
			next++
		}
	}
	require.Equal(t, n, next)
	reading.Wait()
	ended, err := g.result()
	require.True(t, ended)
	require.NoError(t, err)
}

func TestGatherBounds(t *testing.T) {
	t.Parallel()
	g := newGather()
	large := make([]byte, batchBytes+1)
	require.NoError(t, g.put(large), "one is always taken")
	blocked := make(chan error, 1)
	go func() { blocked <- g.put([]byte("x")) }()
	require.Len(t, g.take(), 1)
	require.NoError(t, <-blocked)
	go func() {
		for g.put(large[:batchBytes/2]) == nil {
		}
		blocked <- errStopped
	}()
	g.stop()
	require.ErrorIs(t, <-blocked, errStopped)
	require.NotEmpty(t, g.take(), "what was put before the stop is still there")
	require.Nil(t, g.take())
}

// failingWriter fails once it has taken a number of bytes.
type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	w.left -= len(b)
	if w.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

func TestOutput(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	o := newOutput(&b)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 100 {
				if err := o.write([]byte("line\n")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	require.NoError(t, o.put([]byte("end\n")))
	require.NoError(t, o.close(context.Background()))
	require.Equal(t, strings.Repeat("line\n", 800)+"end\n", b.String())

	o = newOutput(&failingWriter{left: 10})
	require.NoError(t, o.write([]byte("12345678")))
	require.ErrorContains(t, o.write([]byte("12345678")), "disk full")
	require.ErrorContains(t, o.put([]byte("x")), "disk full")
	require.ErrorContains(t, o.close(context.Background()), "disk full")
}
