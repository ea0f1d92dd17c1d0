package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// built holds the binaries of this test process, so that its tests share them:
// the key is the package, the tags, and whether it has the race detector.
//
//nolint:gochecknoglobals // a cache for the test process, which no test can hold.
var built sync.Map

type build struct {
	once sync.Once
	path string
	err  error
}

// Build compiles a main package of this module ("./cmd/oncemq"), once in each
// test process, and returns the binary's path.
func Build(tb testing.TB, pkg string) string {
	tb.Helper()
	return buildOnce(tb, pkg, false, "")
}

// BuildTags is Build with build tags, separated by commas.
func BuildTags(tb testing.TB, pkg, tags string) string {
	tb.Helper()
	return buildOnce(tb, pkg, false, tags)
}

// BuildRace is Build with the race detector, which needs cgo. It is a good
// deal slower to build and to run.
func BuildRace(tb testing.TB, pkg string) string {
	tb.Helper()
	return buildOnce(tb, pkg, true, "")
}

func buildOnce(tb testing.TB, pkg string, race bool, tags string) string {
	tb.Helper()
	entry, _ := built.LoadOrStore(fmt.Sprintf("%s race=%t tags=%s", pkg, race, tags), &build{})
	b := entry.(*build)
	b.once.Do(func() { b.path, b.err = compile(pkg, race, tags) })
	if b.err != nil {
		tb.Fatalf("testenv: build %s: %v", pkg, b.err)
	}
	return b.path
}

// compile builds into a folder of the user's cache, one for each package of each
// checkout: two packages may have the same name. The binary is put in place by a rename: test processes that build at the same
// time do not disturb each other, and nothing is left behind but the last one.
func compile(pkg string, race bool, tags string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(root))
	dir := filepath.Join(cache, "oncemq-test", hex.EncodeToString(sum[:8]), filepath.FromSlash(pkg))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	name := filepath.Base(pkg)
	args := []string{"build"}
	if race {
		name += "-race"
		args = append(args, "-race")
	}
	if tags != "" {
		name += "-" + tags
		args = append(args, "-tags", tags)
	}
	scratch, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	out := filepath.Join(scratch, name)
	//nolint:gosec,noctx // the arguments are the test's own; go test's time limit ends it.
	cmd := exec.Command("go", append(args, "-o", out, pkg)...)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, strings.TrimSpace(string(text)))
	}
	path := filepath.Join(dir, name)
	return path, os.Rename(out, path)
}

// moduleRoot is the nearest folder at or above the working directory, which
// for a test is its package's, that has a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod at or above the working directory")
		}
		dir = parent
	}
}
