package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDocsTests runs the tests that the documentation names, each by its command, and what
// the README does with Go, in a fresh clone of the repository: that each passes, and that
// the command finds any. It takes most of an hour and is "make docs" alone.
func TestDocsTests(t *testing.T) { //nolint:paralleltest // one after another, as a reader does
	if os.Getenv("ONCEMQ_DOCS") != "all" {
		t.Skip("make docs runs it")
	}
	clone := filepath.Join(t.TempDir(), "clone")
	text, err := exec.CommandContext(t.Context(), "git", "clone", "-q", docsRoot, clone).CombinedOutput()
	require.NoError(t, err, string(text))
	left := map[string]string{
		"go test ./internal/chaos -timeout 0 -parallel 3 -run 'TestChaos$' -v": "is of an hour, by ONCEMQ_CHAOS_DURATION",
		"go test ./internal/session -run X":                                    "is the form of the others",
	}
	run := 0
	for _, line := range append(docsTests(t), "go run ./cmd/oncemq demo", "go install ./cmd/oncemq") { //nolint:paralleltest // see above
		if why, ok := left[line]; ok {
			t.Logf("left out: %s: %s", line, why)
			continue
		}
		run++
		t.Run(line, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-c", line)
			cmd.Dir, cmd.Env = clone, append(os.Environ(), "GOBIN="+t.TempDir())
			text, err := cmd.CombinedOutput()
			require.NoError(t, err, string(text))
			require.NotContains(t, string(text), "no tests to run")
		})
	}
	t.Logf("%d commands, %d run, %d left out", run+len(left), run, len(left))
}

// docsTests are the calls of go test in the texts, each once.
func docsTests(t *testing.T) (lines []string) {
	t.Helper()
	for _, file := range docsFiles(t) {
		text, err := os.ReadFile(filepath.Join(docsRoot, file))
		require.NoError(t, err)
		for _, line := range commandsOf(string(text)) {
			if strings.HasPrefix(line, "go test ") {
				for _, short := range []string{"chaos", "fleet", "session"} { // as docs/reliability.md says
					line = strings.Replace(line, "./"+short+" ", "./internal/"+short+" ", 1)
				}
				lines = append(lines, line)
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
