package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/internal/testenv"
)

// everyCommand calls fn for oncemq's commands and their commands.
func everyCommand(fn func(path []string, c *cli.Command)) {
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			own := append(path[:len(path):len(path)], c.Name)
			fn(own, c)
			walk(own, c.Subcommands)
		}
	}
	walk(nil, newApp(&shell{}).Commands)
}

// completed are what bash offers after a command line whose last word is not whole.
func completed(t *testing.T, script string, lines [][]string) [][]string {
	t.Helper()
	var b strings.Builder
	b.WriteString(script)
	b.WriteString("\ntry() { COMP_WORDS=(oncemq \"$@\"); COMP_CWORD=$#; COMPREPLY=(); _oncemq; printf '%s\\x1f' \"${COMPREPLY[@]}\"; echo; }\n")
	for _, words := range lines {
		b.WriteString("try")
		for _, w := range words {
			b.WriteString(" " + quoteShell(w))
		}
		b.WriteString("\n")
	}
	cmd := exec.CommandContext(t.Context(), testenv.Program(t, "bash", "bash"), "--norc", "-u")
	cmd.Stdin = strings.NewReader(b.String())
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	results := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	require.Len(t, results, len(lines), string(out))
	all := make([][]string, len(lines))
	for i, r := range results {
		for word := range strings.SplitSeq(r, "\x1f") {
			if word != "" {
				all[i] = append(all[i], word)
			}
		}
	}
	return all
}

// TestCompletionBash: a real bash completes commands, options and values.
func TestCompletionBash(t *testing.T) {
	t.Parallel()
	got := runOnce(t, command("completion", "bash"))
	require.Equal(t, exitDone, got.code, got.stderr)
	for line, want := range map[string][]string{
		"":                          nil, // all commands; see TestEveryCommand
		"o":                         {"outbox"},
		"outbox ":                   {"stats", "list", "show", "retry", "purge", "--help"},
		"outbox l":                  {"list"},
		"help outbox l":             {"list"},
		"outbox list --state ":      {"pending", "delivered", "failed", "expired"},
		"outbox list --state f":     {"failed"},
		"outbox list --state = f":   {"failed"},
		"outbox list --json --li":   {"--limit"},
		"pub -q ":                   {"0", "1", "2"},
		"pub --qos ":                {"0", "1", "2"},
		"pub -t pub --qo":           {"--qos"},
		"pub -t ":                   {},
		"sub --log-format ":         {"text", "json"},
		"sub --retain-h":            {"--retain-handling"},
		"completion ":               {"bash", "zsh", "fish", "--help"},
		"sub --tls-engine":          {},
		"sub --psk":                 {},
		"no-such-command --anythin": {},
	} {
		words := strings.Split(line, " ")
		result := completed(t, got.stdout, [][]string{words})[0]
		if want == nil {
			require.Contains(t, result, "pub")
			require.Contains(t, result, "help")
			continue
		}
		require.Equal(t, want, append([]string{}, result...), line)
	}
}

// TestCompletionScripts: other shells accept their scripts, where they are at hand.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range shells() {
		got := runOnce(t, command("completion", shell))
		require.Equal(t, exitDone, got.code, got.stderr)
		require.NotContains(t, got.stdout, "tls-engine", "what is refused is not offered")
		for _, part := range []string{"outbox", "retain-handling", "tlsv1.3"} {
			require.Contains(t, got.stdout, part)
		}
		program, err := exec.LookPath(shell)
		if err != nil {
			continue // bash is tested in any case, by TestCompletionBash
		}
		cmd := exec.CommandContext(t.Context(), program, "-n")
		cmd.Stdin = strings.NewReader(got.stdout)
		text, err := cmd.CombinedOutput()
		require.NoErrorf(t, err, "%s: %s", shell, text)
	}
	got := runOnce(t, command("completion", "tcsh"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, `there is no completion for "tcsh"; there are bash, zsh and fish`)
	got = runOnce(t, command("completion"))
	require.Equal(t, exitUsage, got.code)
}

// TestEveryCommand: each command has a help with an example, is completed, and has a
// manual page that man finds no fault with.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	script := runOnce(t, command("completion", "bash")).stdout
	pages := make(map[string]string)
	for _, p := range manPages(newApp(&shell{})) {
		pages[p.name] = p.text
	}
	var lines [][]string
	var names []string
	man := 0
	everyCommand(func(path []string, c *cli.Command) {
		name := strings.Join(path, " ")
		got := runOnce(t, command(append(slices.Clone(path), "--help")...))
		require.Equal(t, exitDone, got.code, name)
		require.Containsf(t, got.stdout, "oncemq "+name, "the help of %s", name)
		require.Regexpf(t, `(?ms)^Examples:\n.*^  [^\n]*oncemq `+name, got.stdout, "the help of %s has an example", name)
		lines = append(lines, path)
		names = append(names, c.Name)

		page, ok := pages["oncemq-"+strings.Join(path, "-")]
		require.Truef(t, ok, "%s has a manual page", name)
		man++
		for _, o := range optionsOf(c) {
			require.Equalf(t, !o.hidden, strings.Contains(page, manEscape("--"+o.name)+`\fR`), "--%s of %s", o.name, name)
		}
	})
	require.Len(t, pages, man+1)
	for i, found := range completed(t, script, lines) {
		require.Containsf(t, found, names[i], "%s is completed", strings.Join(lines[i], " "))
	}
	program, err := exec.LookPath("man")
	if err != nil {
		t.Log("there is no man to check the pages with")
		return
	}
	all := make([]string, 0, len(pages))
	for _, name := range []string{"oncemq", "oncemq-sub", "oncemq-pub", "oncemq-outbox-list", "oncemq-completion"} {
		all = append(all, pages[name])
	}
	for _, page := range all {
		cmd := exec.CommandContext(t.Context(), program, "--warnings", "-l", "-")
		cmd.Env = []string{"MANWIDTH=80", "LC_ALL=C.UTF-8", "MANPAGER=cat", "PATH=/usr/bin:/bin"}
		cmd.Stdin = strings.NewReader(page)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Empty(t, stderr.String(), page)
		require.Contains(t, string(out), "SYNOPSIS")
		require.NotContains(t, string(out), `\f`)
	}
}

// TestChoices: an option whose values can be counted has them, and takes each.
func TestChoices(t *testing.T) {
	t.Parallel()
	everyCommand(func(path []string, c *cli.Command) {
		for _, o := range optionsOf(c) {
			if o.hidden {
				continue
			}
			for _, choice := range o.choices {
				require.NoErrorf(t, o.set(choice), "%v --%s %s", path, o.name, choice)
			}
			if err := o.set("\x01"); err != nil && (strings.Contains(err.Error(), "is not a choice") || strings.Contains(err.Error(), "is not a level")) {
				require.NotEmptyf(t, o.choices, "%v --%s", path, o.name)
			}
			require.Equalf(t, strings.Contains(o.usage, "several times") || o.name == "property", o.many, "%v --%s", path, o.name)
		}
	})
}

// TestManPages: the pages of all commands are written, and one is printed.
func TestManPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := runOnce(t, command("man", "--dir", dir))
	require.Equal(t, exitDone, got.code, got.stderr)
	one := runOnce(t, command("man", "outbox", "list"))
	require.Equal(t, exitDone, one.code, one.stderr)
	require.Equal(t, one.stdout, contents(t, dir+"/oncemq-outbox-list.1"))
	require.Equal(t, runOnce(t, command("man")).stdout, contents(t, dir+"/oncemq.1"))
	got = runOnce(t, command("man", "pbu"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, `there is no command "pbu"`)
}
