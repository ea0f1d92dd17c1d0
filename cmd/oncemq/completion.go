package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/fault"
)

// shells are those that there is a completion for.
func shells() []string { return []string{"bash", "zsh", "fish"} }

func completionCommand(sh *shell) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete commands, options and values",
		UsageText: "oncemq completion bash|zsh|fish",
		ArgsUsage: "SHELL",
		Description: `
Examples:
  source <(oncemq completion bash)
  oncemq completion bash > /etc/bash_completion.d/oncemq
  oncemq completion zsh > "${fpath[1]}/_oncemq"
  oncemq completion fish > ~/.config/fish/completions/oncemq.fish`,
		Action: action(sh, func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return &usageError{problem: "name one shell: bash, zsh or fish"}
			}
			t := newCompletions(newApp(&shell{}))
			switch name := args[0]; name {
			case "bash":
				return written(t.bash(sh.stdout))
			case "zsh":
				return written(t.zsh(sh.stdout))
			case "fish":
				return written(t.fish(sh.stdout))
			default:
				return &usageError{problem: fmt.Sprintf("there is no completion for %s; there are bash, zsh and fish", shown(name))}
			}
		}),
	}
}

// completions are what may stand where in a command line.
type completions struct {
	commands []completedCommand
}

// completedCommand is a command with what may follow it.
type completedCommand struct {
	path     []string // empty for oncemq itself
	commands []*cli.Command
	options  []completedOption
	words    []completedWord // arguments that there are to choose from
}

// completedWord is an argument with what it stands for, if that needs a word.
type completedWord struct{ name, usage string }

// completedOption is an option as the scripts need it.
type completedOption struct {
	names   []string // with their dashes
	usage   string   // the first part of its help
	value   bool     // it takes one
	choices []string // all values, if they can be counted
	files   bool     // the value is a file or directory
}

func newCompletions(app *cli.App) completions {
	var t completions
	var add func(path []string, commands []*cli.Command, options []completedOption)
	add = func(path []string, commands []*cli.Command, options []completedOption) {
		visible := slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool { return c.Hidden })
		t.commands = append(t.commands, completedCommand{path: path, commands: visible, options: append(options, completedHelp()), words: words(path)})
		for _, c := range visible {
			add(append(path[:len(path):len(path)], c.Name), c.Subcommands, completedOptions(c))
		}
	}
	help := &cli.Command{Name: "help", Usage: "print the help of a command"}
	add(nil, append(slices.Clone(app.Commands), help), nil)
	return t
}

// words are the arguments of the commands that have such.
func words(path []string) (all []completedWord) {
	switch strings.Join(path, " ") {
	case "completion":
		for _, name := range shells() {
			all = append(all, completedWord{name: name})
		}
	case "chaos run":
		all = append(all, completedWord{"all", "all scenarios, one after another"})
		for _, s := range fault.Scenarios() {
			all = append(all, completedWord{s.Name, s.Summary})
		}
	}
	return all
}

// groups are the paths that a command follows; what follows others is an argument.
func (t *completions) groups(quote func(string) string) []string {
	var all []string
	for _, c := range t.commands {
		if len(c.commands) > 0 {
			all = append(all, quote(strings.Join(c.path, " ")))
		}
	}
	return all
}

func completedHelp() completedOption {
	return completedOption{names: []string{"--help"}, usage: "print the help"}
}

func completedOptions(c *cli.Command) []completedOption {
	var all []completedOption
	for _, f := range c.Flags {
		switch f := f.(type) {
		case *option:
			if !f.hidden {
				all = append(all, f.completed())
			}
		case cli.DocGenerationFlag:
			o := completedOption{usage: brief(f.GetUsage()), value: f.TakesValue()}
			for _, n := range f.Names() {
				o.names = append(o.names, dashed(n))
			}
			all = append(all, o)
		}
	}
	return all
}

func (o *option) completed() completedOption {
	c := completedOption{names: []string{"--" + o.name}, usage: brief(o.usage), value: !o.isSwitch(), choices: o.choices}
	for _, also := range o.also {
		if len(also) == 1 {
			c.names = append([]string{dashed(also)}, c.names...)
		} else {
			c.names = append(c.names, dashed(also))
		}
	}
	switch o.valueName() {
	case "FILE", "DIRECTORY", "PATH":
		c.files = true
	}
	return c
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// brief is the beginning of an explanation, up to its first pause.
func brief(usage string) string {
	usage = strings.ReplaceAll(usage, "`", "")
	for _, end := range []string{"; ", ". ", ": ", " ("} {
		usage, _, _ = strings.Cut(usage, end)
	}
	return usage
}

// candidates are the words that may stand where no value is awaited.
func (c *completedCommand) candidates() []string {
	var all []string
	for _, sub := range c.commands {
		all = append(all, sub.Name)
	}
	for _, word := range c.words {
		all = append(all, word.name)
	}
	for _, o := range c.options {
		all = append(all, o.names...)
	}
	return all
}

// bash writes the script for bash 4 and later, with or without bash-completion.
func (t *completions) bash(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# bash completion of oncemq; written by oncemq completion bash
_oncemq() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev= path= word i words= values= kind=none
	((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD-1]}
	# --option=value comes as three words.
	if [[ $cur == = ]]; then
		cur= kind=value
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]} kind=value
	fi
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		[[ $i == 1 && $word == help ]] && continue
		[[ $word == -* ]] && break
		case $path in
		`)
	b.WriteString(strings.Join(t.groups(quoteShell), "|"))
	b.WriteString(`) path="${path:+$path }$word" ;;
		*) break ;;
		esac
	done
	case $path in
`)
	for _, c := range t.commands {
		if slices.Equal(c.path, []string{"help"}) {
			continue
		}
		fmt.Fprintf(&b, "\t%s)\n\t\twords=%s\n", quoteShell(strings.Join(c.path, " ")), quoteShell(strings.Join(c.candidates(), " ")))
		if slices.ContainsFunc(c.options, func(o completedOption) bool { return o.value }) {
			b.WriteString("\t\tcase $prev in\n")
			for _, o := range c.options {
				if !o.value {
					continue
				}
				kind := "kind=value"
				switch {
				case o.choices != nil:
					kind = "kind=choice values=" + quoteShell(strings.Join(o.choices, " "))
				case o.files:
					kind = "kind=file"
				}
				fmt.Fprintf(&b, "\t\t%s) %s ;;\n", strings.Join(o.names, "|"), kind)
			}
			b.WriteString("\t\tesac\n")
		}
		b.WriteString("\t\t;;\n")
	}
	b.WriteString(`	esac
	COMPREPLY=()
	case $kind in
	none) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
	choice) mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur") ;;
	file)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2>/dev/null
		;;
	esac
}
complete -F _oncemq oncemq
`)
	_, err := io.WriteString(w, b.String())
	return err
}

// zsh writes the script for zsh's completion system.
func (t *completions) zsh(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`#compdef oncemq
# zsh completion of oncemq; written by oncemq completion zsh
_oncemq() {
	local cur=${words[CURRENT]} prev=${words[CURRENT-1]} path_= i
	local -a described
	if [[ $cur == --*=* ]]; then
		prev=${cur%%=*}
		compset -P 1 '*='
	fi
	for ((i = 2; i < CURRENT; i++)); do
		[[ $i == 2 && ${words[i]} == help ]] && continue
		[[ ${words[i]} == -* ]] && break
		case $path_ in
		(`)
	b.WriteString(strings.Join(t.groups(quoteShell), "|"))
	b.WriteString(`) path_="${path_:+$path_ }${words[i]}" ;;
		(*) break ;;
		esac
	done
	case $path_ in
`)
	for _, c := range t.commands {
		if slices.Equal(c.path, []string{"help"}) {
			continue
		}
		fmt.Fprintf(&b, "\t(%s)\n", quoteShell(strings.Join(c.path, " ")))
		if slices.ContainsFunc(c.options, func(o completedOption) bool { return o.value }) {
			b.WriteString("\t\tcase $prev in\n")
			for _, o := range c.options {
				if !o.value {
					continue
				}
				action := "_message " + quoteShell(o.usage)
				switch {
				case o.choices != nil:
					action = "compadd -- " + strings.Join(o.choices, " ")
				case o.files:
					action = "_files"
				}
				fmt.Fprintf(&b, "\t\t(%s) %s; return ;;\n", strings.Join(o.names, "|"), action)
			}
			b.WriteString("\t\tesac\n")
		}
		b.WriteString("\t\tdescribed=(\n")
		for _, sub := range c.commands {
			fmt.Fprintf(&b, "\t\t\t%s\n", quoteShell(sub.Name+":"+sub.Usage))
		}
		for _, word := range c.words {
			fmt.Fprintf(&b, "\t\t\t%s\n", quoteShell(strings.TrimSuffix(word.name+":"+word.usage, ":")))
		}
		for _, o := range c.options {
			for _, n := range o.names {
				fmt.Fprintf(&b, "\t\t\t%s\n", quoteShell(n+":"+o.usage))
			}
		}
		b.WriteString("\t\t)\n\t\t;;\n")
	}
	b.WriteString(`	esac
	[[ $cur == --*=* ]] || _describe -V oncemq described
}
if [[ $funcstack[1] == _oncemq ]]; then
	_oncemq "$@"
else
	compdef _oncemq oncemq
fi
`)
	_, err := io.WriteString(w, b.String())
	return err
}

// fish writes the script for fish.
func (t *completions) fish(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# fish completion of oncemq; written by oncemq completion fish
function __oncemq_at
	set -l words (commandline -opc)[2..-1]
	if test "$words[1]" = help
		set -e words[1]
	end
	set -l path
	for word in $words
		string match -q -- '-*' $word; and break
		contains -- "$path" `)
	b.WriteString(strings.Join(t.groups(quoteFish), " "))
	b.WriteString(`; or break
		set -a path $word
	end
	test "$path" = "$argv"
end
complete -c oncemq -f
`)
	for _, c := range t.commands {
		if slices.Equal(c.path, []string{"help"}) {
			continue
		}
		at := "complete -c oncemq -n " + quoteFish("__oncemq_at "+strings.Join(c.path, " "))
		for _, sub := range c.commands {
			fmt.Fprintf(&b, "%s -a %s -d %s\n", at, sub.Name, quoteFish(sub.Usage))
		}
		for _, word := range c.words {
			fmt.Fprintf(&b, "%s -a %s -d %s\n", at, word.name, quoteFish(word.usage))
		}
		for _, o := range c.options {
			line := at
			for _, n := range o.names {
				if len(n) == 2 {
					line += " -s " + n[1:]
				} else {
					line += " -l " + strings.TrimLeft(n, "-")
				}
			}
			switch {
			case o.choices != nil:
				line += " -x -a " + quoteFish(strings.Join(o.choices, " "))
			case o.files:
				line += " -r -F"
			case o.value:
				line += " -x"
			}
			fmt.Fprintf(&b, "%s -d %s\n", line, quoteFish(o.usage))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// quoteShell is a word in single quotes, for bash and zsh.
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// quoteFish is a word in single quotes, for fish.
func quoteFish(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
