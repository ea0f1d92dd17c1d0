package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
)

// The commands of the documentation are commands: every line that calls oncemq is
// understood, its options and their values included, and every go test names a
// package and tests that there are. Links lead to files.
func TestCommandsOfTheDocs(t *testing.T) {
	t.Parallel()
	known := make(testNames)
	checked := 0
	for _, file := range docsFiles(t) {
		text, err := os.ReadFile(filepath.Join(docsRoot, file))
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			require.FileExists(t, filepath.Join(docsRoot, filepath.Dir(file), m[1]), file)
		}
		for _, line := range commandsOf(string(text)) {
			checked++
			if rest, ok := strings.CutPrefix(line, "go test "); ok {
				requireTests(t, known, docsRoot, file, line, rest)
				continue
			}
			requireUnderstood(t, file, line)
		}
	}
	require.Greater(t, checked, 100, "too few were found: is the pattern still right?")
}

// The examples of the helps are understood as well.
func TestCommandsOfTheHelps(t *testing.T) {
	t.Parallel()
	var look func(title string, commands []*cli.Command)
	look = func(title string, commands []*cli.Command) {
		for _, c := range commands {
			for _, example := range examplesOf(c) {
				for _, call := range calls(example) {
					requireUnderstood(t, "help of "+title+c.Name, call)
				}
			}
			look(title+c.Name+" ", c.Subcommands)
		}
	}
	look("oncemq ", newApp(&shell{}).Commands)
}

// examplesOf are the commands in a command's help.
func examplesOf(c *cli.Command) (lines []string) {
	for line := range strings.SplitSeq(c.Description, "\n") {
		if example, ok := strings.CutPrefix(line, "  "); ok && strings.Contains(example, "oncemq ") {
			example, _, _ = strings.Cut(example, "   ") // what it shows
			lines = append(lines, strings.TrimSpace(example))
		}
	}
	return lines
}

// docsRoot is the root of the module.
const docsRoot = "../.."

// docsFiles are the texts, as paths below docsRoot.
func docsFiles(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	for _, pattern := range []string{"docs/*.md", "deploy/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(docsRoot, pattern))
		require.NoError(t, err)
		for _, f := range found {
			rel, err := filepath.Rel(docsRoot, f)
			require.NoError(t, err)
			files = append(files, rel)
		}
	}
	return files
}

var (
	// link is one to a file.
	link     = regexp.MustCompile(`\]\(([^):#]+\.\w+)[^)]*\)`)
	fence    = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	codeSpan = regexp.MustCompile("`([^`]+)`")
	// shortTest is how tables name tests; the folder internal is left out there.
	shortTest = regexp.MustCompile(`^([a-z][\w/]*) (-run .+)$`)
	// filled is what a reader is to replace: no command as it stands.
	filled = regexp.MustCompile(`…|\.\.\.( |$)|\[`)
)

// commandsOf finds the lines in fences, and the code in the text, that are calls of
// oncemq or of go test.
func commandsOf(text string) (lines []string) {
	for _, block := range fence.FindAllStringSubmatch(text, -1) {
		if language := block[1]; language == "go" || language == "yaml" {
			continue
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(block[2], "\\\n", " "), "\n") {
			lines = append(lines, calls(line)...)
		}
	}
	// A span may be broken over two lines; in a table its | is escaped.
	flat := strings.ReplaceAll(strings.Join(strings.Fields(fence.ReplaceAllString(text, "")), " "), `\|`, "|")
	for _, span := range codeSpan.FindAllStringSubmatch(flat, -1) {
		switch m := shortTest.FindStringSubmatch(span[1]); {
		case m != nil:
			lines = append(lines, "go test ./"+m[1]+" "+m[2])
		case strings.HasPrefix(span[1], "oncemq "), strings.Contains(span[1], "go test "):
			lines = append(lines, calls(span[1])...)
		}
	}
	return lines
}

// calls are the calls in a line of a shell, each from the program's name on.
func calls(line string) (found []string) {
	line, _, _ = strings.Cut(line, " # ")
	for _, part := range strings.Split(quotedPipes(line), "|") {
		part = strings.ReplaceAll(strings.TrimSpace(part), "\x00", "|")
		for strings.Contains(strings.SplitN(part, " ", 2)[0], "=") { // a variable of the environment
			_, part, _ = strings.Cut(part, " ")
		}
		part = strings.Replace(part, "go run ./cmd/oncemq", "oncemq", 1)
		if (strings.HasPrefix(part, "oncemq ") || strings.HasPrefix(part, "go test ")) && !filled.MatchString(part) {
			found = append(found, part)
		}
	}
	return found
}

// quotedPipes hides the | that stand within quotation marks.
func quotedPipes(line string) string {
	quoted := rune(0)
	return strings.Map(func(r rune) rune {
		switch {
		case r == quoted:
			quoted = 0
		case quoted == 0 && (r == '\'' || r == '"'):
			quoted = r
		case r == '|' && quoted != 0:
			return 0
		}
		return r
	}, line)
}

// shellWords splits a line as a shell does, quotation marks included.
func shellWords(line string) (all []string) {
	var word strings.Builder
	quoted, begun := rune(0), false
	for _, r := range line + " " {
		switch {
		case r == quoted:
			quoted = 0
		case quoted == 0 && (r == '\'' || r == '"'):
			quoted, begun = r, true
		case quoted == 0 && r == ' ':
			if begun || word.Len() > 0 {
				all = append(all, word.String())
			}
			begun = false
			word.Reset()
		default:
			word.WriteRune(r)
		}
	}
	return all
}

// requireUnderstood has a line read by oncemq, up to where its command would begin.
func requireUnderstood(t *testing.T, where, line string) {
	t.Helper()
	args := shellWords(line)
	for i, a := range args { // a redirection, or the end of the command
		if strings.HasPrefix(a, ">") || strings.HasPrefix(a, "<") || a == "&" || a == "&&" || a == ";" {
			args = args[:i]
			break
		}
	}
	sh := &shell{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, lookup: lookupIn(nil)}
	sh.log = newReporter(io.Discard, "oncemq")
	app := newApp(sh)
	var still func(commands []*cli.Command)
	still = func(commands []*cli.Command) {
		for _, c := range commands {
			c.Action = func(*cli.Context) error { return nil }
			still(c.Subcommands)
		}
	}
	still(app.Commands)
	r, err := readArgs(app, args)
	require.NoErrorf(t, err, "%s: %s", where, line)
	if !r.help {
		require.NoErrorf(t, app.RunContext(t.Context(), r.args), "%s: %s", where, line)
	}
}

var testName = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz|Example)\w+)\(`)

// testNames are the names of the tests of folders.
type testNames map[string][]string

func (n testNames) in(t *testing.T, dir string) []string {
	t.Helper()
	if names, ok := n[dir]; ok {
		return names
	}
	sources, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, s := range sources {
		text, err := os.ReadFile(s)
		require.NoError(t, err)
		for _, m := range testName.FindAllStringSubmatch(string(text), -1) {
			n[dir] = append(n[dir], m[1])
		}
	}
	return n[dir]
}

// requireTests looks for the packages of a go test, and for the tests that it runs.
func requireTests(t *testing.T, known testNames, root, where, line, rest string) {
	t.Helper()
	var packages, patterns []string
	args := shellWords(rest)
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-run" || args[i] == "-bench":
			require.Greaterf(t, len(args), i+1, "%s: %s", where, line)
			i++
			if args[i] != "X" && args[i] != "^$" { // no test at all, beside -bench
				patterns = append(patterns, args[i])
			}
		case strings.HasPrefix(args[i], "./"):
			packages = append(packages, args[i])
		}
	}
	var names []string
	for _, p := range packages {
		dirs := []string{filepath.Join(root, p)}
		if base, all := strings.CutSuffix(p, "/..."); all {
			var err error
			dirs, err = filepath.Glob(filepath.Join(root, base, "*"))
			require.NoError(t, err)
			dirs = append(dirs, filepath.Join(root, base))
		}
		if _, err := os.Stat(dirs[0]); err != nil {
			dirs[0] = filepath.Join(root, "internal", p)
		}
		before := len(names)
		for _, dir := range dirs {
			names = append(names, known.in(t, dir)...)
		}
		require.Greaterf(t, len(names), before, "%s: %s: %s has no tests", where, line, p)
	}
	for _, pattern := range patterns {
		top, _, _ := strings.Cut(pattern, "/")
		for alternative := range strings.SplitSeq(top, "|") {
			re, err := regexp.Compile(alternative)
			if err != nil {
				re = regexp.MustCompile(top) // the | is within a group
			}
			require.Truef(t, slices.ContainsFunc(names, re.MatchString), "%s: %s: no test is named %s", where, line, alternative)
		}
	}
}
