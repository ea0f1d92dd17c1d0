package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
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

// TestCompletionScripts: the scripts hold what there is, and no other shell has one.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range shells() {
		got := runOnce(t, command("completion", shell))
		require.Equal(t, exitDone, got.code, got.stderr)
		require.NotContains(t, got.stdout, "tls-engine", "what is refused is not offered")
		for _, part := range []string{"outbox", "retain-handling", "tlsv1.3"} {
			require.Contains(t, got.stdout, part)
		}
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
	var lines, names []string
	man := 0
	everyCommand(func(path []string, c *cli.Command) {
		name := strings.Join(path, " ")
		got := runOnce(t, command(append(slices.Clone(path), "--help")...))
		require.Equal(t, exitDone, got.code, name)
		require.Containsf(t, got.stdout, "oncemq "+name, "the help of %s", name)
		require.Regexpf(t, `(?ms)^Examples:\n.*^  [^\n]*oncemq `+name, got.stdout, "the help of %s has an example", name)
		lines = append(lines, name)
		names = append(names, c.Name)

		page, ok := pages["oncemq-"+strings.Join(path, "-")]
		require.Truef(t, ok, "%s has a manual page", name)
		man++
		for _, o := range optionsOf(c) {
			require.Equalf(t, !o.hidden, strings.Contains(page, manEscape("--"+o.name)+`\fR`), "--%s of %s", o.name, name)
		}
	})
	require.Len(t, pages, man+1)
	for i, found := range offeredByBash(t, script, lines) {
		require.Containsf(t, found, names[i], "%s is completed", lines[i])
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
