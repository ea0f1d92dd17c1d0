package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// RequireServers is the environment variable that makes a missing program fail
// a test instead of skipping it, if its value is 1.
const RequireServers = "ONCEMQ_REQUIRE_SERVERS"

// Program returns the path of an installed program. If it is missing the test
// is skipped, or fails if RequireServers says so; pkg is the package to install
// then.
func Program(tb testing.TB, name, pkg string) string {
	tb.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	// Servers live where a user's PATH often does not reach.
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	missing(tb, name, pkg)
	return ""
}

// missing skips or fails the test, and does not return.
func missing(tb testing.TB, name, pkg string) {
	tb.Helper()
	if os.Getenv(RequireServers) == "1" {
		tb.Fatalf("testenv: %s is not installed: install the package %s (apt-get install %s)", name, pkg, pkg)
	}
	tb.Skipf("%s is not installed; make test installs it", name)
}
