package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
)

// TestCompletionShells: real shells complete commands, arguments, options and values.
func TestCompletionShells(t *testing.T) {
	t.Parallel()
	scenarios := []string{"all"}
	for _, s := range fault.Scenarios() {
		scenarios = append(scenarios, s.Name)
	}
	var commands []string
	for _, c := range newApp(&shell{}).Commands {
		if !c.Hidden {
			commands = append(commands, c.Name)
		}
	}
	cases := []struct {
		line string
		want []string
	}{
		{"", append(commands, "help")},
		{"o", []string{"outbox"}},
		{"outbox ", []string{"stats", "list", "show", "retry", "purge"}},
		{"outbox l", []string{"list"}},
		{"help outbox l", []string{"list"}},
		{"outbox lists l", nil},
		{"outbox list --state ", []string{"pending", "delivered", "failed", "expired"}},
		{"outbox list --state f", []string{"failed"}},
		{"outbox list --state=f", []string{"failed"}},
		{"outbox list --json=", nil},
		{"outbox list --json --li", []string{"--limit"}},
		{"outbox show 1 --js", []string{"--json"}},
		{"pub -q ", []string{"0", "1", "2"}},
		{"pub --qos ", []string{"0", "1", "2"}},
		{"pub -t pub --qo", []string{"--qos"}},
		{"pub -t ", nil},
		{"sub --log-format ", []string{"text", "json"}},
		{"sub --retain-h", []string{"--retain-handling"}},
		{"sub --cafile cert", []string{"certificates.pem"}},
		{"sub --cafile=cert", []string{"certificates.pem"}},
		{"completion ", []string{"bash", "zsh", "fish"}},
		{"completion z", []string{"zsh"}},
		{"chaos run ", scenarios},
		{"chaos run cut los", []string{"loss", "lost-puback"}},
		{"chaos run cut --mosq", []string{"--mosquitto"}},
		{"chaos run cut --sabotage d", []string{"dedup"}},
		{"sub --tls-engine", nil},
		{"sub --psk", nil},
		{"no-such-command --hel", nil},
	}
	lines := make([]string, 0, len(cases))
	for _, c := range cases {
		lines = append(lines, c.line)
	}
	offered := map[string]func(t *testing.T, script string, lines []string) [][]string{
		"bash": offeredByBash, "zsh": offeredByZsh, "fish": offeredByFish,
	}
	for _, shell := range shells() {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command("completion", shell))
			require.Equal(t, exitDone, got.code, got.stderr)
			for i, words := range offered[shell](t, got.stdout, lines) {
				line := lines[i]
				// fish offers options to whom has typed a dash.
				words = slices.DeleteFunc(words, func(w string) bool {
					return strings.HasPrefix(w, "-") && !strings.Contains(line, "-")
				})
				require.ElementsMatch(t, cases[i].want, words, line)
			}
		})
	}
}

// offeredByBash are the words that bash offers after oncemq and each line, whose last
// word is not whole.
func offeredByBash(t *testing.T, script string, lines []string) [][]string {
	t.Helper()
	var b strings.Builder
	b.WriteString(script)
	b.WriteString("\ntry() { COMP_WORDS=(oncemq \"$@\"); COMP_CWORD=$#; COMPREPLY=(); _oncemq; printf '%s\\x1f' \"${COMPREPLY[@]}\"; echo; }\n")
	for _, line := range lines {
		b.WriteString("try")
		// An equals sign is a word to bash.
		for word := range strings.SplitSeq(strings.ReplaceAll(line, "=", " = "), " ") {
			b.WriteString(" " + quoteShell(word))
		}
		b.WriteString("\n")
	}
	cmd := exec.CommandContext(t.Context(), testenv.Program(t, "bash", "bash"), "--norc", "-u")
	cmd.Stdin = strings.NewReader(b.String())
	return offers(t, cmd, lines)
}

// zshInside is what a zsh of the user's does, and prints the words that it would offer.
const zshInside = `
PROMPT=
unsetopt autolist automenu beep
fpath=($PWD $fpath)
autoload -Uz compinit && compinit -u -D
bindkey -e
bindkey '^I' complete-word
compadd() {
	if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then # else it only asks
		local -a hits
		builtin compadd -A hits "$@"
		(($#hits)) && print -rl -- "" "hit:"${^hits}
	fi
	builtin compadd "$@"
}
finish() {
	print done:
	comppostfuncs=(finish) # they are for one completion
}
comppostfuncs=(finish)
`

// zshOutside types lines into such a zsh; its completion needs a terminal.
const zshOutside = `
zmodload zsh/zpty
zpty z $ZSH -f -i
zpty -w z 'stty -echo; . ./inside; print rea""dy:'
while zpty -r z part; do [[ $part == *ready:* ]] && break; done
for line in "$@"; do
	zpty -n -w z $'\x15'"$line"$'\t'
	got=
	while zpty -r z part; do
		got+=$part
		[[ $part == *done:* ]] && break
	done
	hits=(${(M)${(f)got//$'\r'}:#hit:*})
	print -r -- ${(pj:\x1f:)hits#hit:}
done
zpty -d z
`

// offeredByZsh is offeredByBash for zsh.
func offeredByZsh(t *testing.T, script string, lines []string) [][]string {
	t.Helper()
	program := testenv.Program(t, "zsh", "zsh")
	args := []string{"-f", "-c", zshOutside, "zsh"}
	for _, line := range lines {
		args = append(args, "oncemq "+line)
	}
	cmd := exec.CommandContext(within(t, time.Minute), program, args...)
	cmd.Dir, cmd.Env = t.TempDir(), []string{"TERM=dumb", "ZSH=" + program}
	// What is in a folder of fpath is loaded when it is first needed.
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "_oncemq"), []byte(script), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "inside"), []byte(zshInside), 0o600))
	return offers(t, cmd, lines)
}

// offeredByFish is offeredByBash for fish.
func offeredByFish(t *testing.T, script string, lines []string) [][]string {
	t.Helper()
	var b strings.Builder
	b.WriteString(script)
	for _, line := range lines {
		// A word has its description behind a tab, and the option before it with --option=.
		fmt.Fprintf(&b, "echo (complete -C %s | string replace -r '\\t.*' '' | string replace -r '^-.*=' '' | string join \\x1f)\n", quoteFish("oncemq "+line))
	}
	cmd := exec.CommandContext(within(t, time.Minute), testenv.Program(t, "fish", "fish"))
	cmd.Stdin = strings.NewReader(b.String())
	return offers(t, cmd, lines)
}

// offers runs a shell, which prints the words for each line in a line of its own.
func offers(t *testing.T, cmd *exec.Cmd, lines []string) [][]string {
	t.Helper()
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "certificates.pem"), nil, 0o600))
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+cmd.Dir, "LC_ALL=C.UTF-8")
	cmd.WaitDelay = time.Second // a zsh inside zsh may hold the output
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
