package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

const (
	keyBefore = "an old key of receipts, of many bytes"
	keyAfter  = "a new key of receipts, of many bytes"
)

// keyFile is a file with those lines, that its owner alone can read.
func keyFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

// TestReceiptKeyFile: a receipt counts if it was signed with one of the publisher's
// keys.
func TestReceiptKeyFile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pub, sub []string // keys
		code     int
	}{
		"the same":             {[]string{keyAfter}, []string{keyAfter}, exitDone},
		"while it is changed":  {[]string{keyAfter, keyBefore}, []string{keyBefore, keyAfter}, exitDone},
		"empty lines, CR LF":   {[]string{"", keyBefore + "\r", "", keyAfter}, []string{keyAfter + "\r"}, exitDone},
		"not checked":          {nil, []string{keyAfter}, exitDone},
		"not the publisher's":  {[]string{keyAfter}, []string{keyBefore}, exitStored},
		"signed with a second": {[]string{keyAfter}, []string{keyBefore, keyAfter}, exitStored},
		"not signed":           {[]string{keyAfter}, nil, exitStored},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			subscriber := []string{"-t", "a", "--receipts", "-i", "s", "-c"}
			publisher := []string{"-t", "a", "-m", "x", "--receipt"}
			if test.sub != nil {
				subscriber = append(subscriber, "--receipt-key-file", keyFile(t, test.sub...))
			}
			if test.pub != nil {
				publisher = append(publisher, "--receipt-key-file", keyFile(t, test.pub...))
			}
			subscriber = append(subscriber, "-C", "1")
			if test.code == exitDone {
				publisher = append(publisher, "--timeout", "20")
			} else { // long enough for the message to arrive
				publisher = append(publisher, "--timeout", "8")
			}
			l := listen(t, brokertest.Options{}, subscriber...)
			got := runOnce(t, command(append([]string{"pub", "-L", l.broker.URL()}, publisher...)...))
			require.Equal(t, test.code, got.code, got.stderr)
			require.Equal(t, "x\n", l.wait(t).stdout)
		})
	}
}

// TestReceiptKeyFileThatIsWrong is refused, with the line and without the key.
func TestReceiptKeyFileThatIsWrong(t *testing.T) {
	t.Parallel()
	short, empty := keyFile(t, keyAfter, "tooshort"), keyFile(t, "", "")
	open := keyFile(t, keyAfter)
	require.NoError(t, os.Chmod(open, 0o644))
	for name, test := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"no file":       {[]string{"pub", "-t", "a", "-m", "x", "--receipt-key-file", "/nowhere/keys"}, exitUsage, "--receipt-key-file: open /nowhere/keys: no such file"},
		"too short":     {[]string{"relay", "--receipt-key-file", short}, exitUsage, "--receipt-key-file: line 2 of \"" + short + "\" has 8 bytes; use 16 random ones or more"},
		"no key":        {[]string{"sub", "-t", "a", "--receipts", "--receipt-key-file", empty}, exitUsage, "--receipt-key-file: \"" + empty + "\" holds no key"},
		"nothing to do": {[]string{"sub", "-t", "a", "--receipt-key-file", open}, exitUsage, "--receipt-key-file: signs receipts, and none are sent; give --receipts"},
		"for all eyes":  {[]string{"pub", "-t", "a", "-m", "x", "--no-wait", "--receipt-key-file", open}, exitDone, "the receipt keys \"" + open + "\" can be read by others"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(test.args...))
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stderr, test.stderr)
			require.NotContains(t, got.stderr, "tooshort")
			require.NotContains(t, got.stderr, keyAfter)
		})
	}
}
