package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// request is a command line that was looked through.
type request struct {
	// path are the commands that it names: none for oncemq itself.
	path []*cli.Command
	// help tells that help was asked for.
	help bool
	// args is what urfave/cli gets: every option as --name=value, under the
	// name that it knows.
	args []string
	// words are the arguments that belong to no option, for a command that takes
	// such.
	words []string
}

// command is the innermost command; nil for oncemq itself.
func (r *request) command() *cli.Command {
	if len(r.path) == 0 {
		return nil
	}
	return r.path[len(r.path)-1]
}

// title is "oncemq pub".
func (r *request) title() string {
	words := []string{"oncemq"}
	for _, c := range r.path {
		words = append(words, c.Name)
	}
	return strings.Join(words, " ")
}

// readArgs finds the command, and brings the options into the one form that
// package flag reads without guessing: it takes neither an option whose value
// are several arguments (-D publish user-property k v) nor two names of one
// option side by side, and would ask whether "-m -l" is a message or a mistake.
//
// The request is not nil if there is an error: it tells how far the reading
// came.
func readArgs(app *cli.App, args []string) (*request, error) {
	r := &request{args: args[:1:1]}
	rest := args[1:]
	if len(rest) > 0 && rest[0] == "help" {
		r.help = true
		rest = rest[1:]
	}
	commands := app.Commands
	for len(rest) > 0 && !strings.HasPrefix(rest[0], "-") && len(commands) > 0 {
		c := findCommand(commands, rest[0])
		if c == nil {
			return r, unknownCommand(commands, rest[0])
		}
		r.path = append(r.path, c)
		r.args = append(r.args, c.Name)
		commands, rest = c.Subcommands, rest[1:]
	}
	if c := r.command(); c != nil && len(optionsOf(c)) == 0 && len(c.Flags) > 0 {
		// A command with options of urfave/cli's own kinds.
		r.args = append(r.args, rest...)
		for _, arg := range rest {
			r.help = r.help || arg == "--help"
		}
		return r, nil
	}
	err := r.readOptions(rest)
	if len(r.words) > 0 {
		r.args = append(append(r.args, "--"), r.words...)
	}
	return r, err
}

// readOptions appends the options of the innermost command.
func (r *request) readOptions(rest []string) error {
	var options []*option
	if c := r.command(); c != nil {
		options = optionsOf(c)
	}
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		word, value, hasValue := strings.Cut(arg, "=")
		dashed := strings.TrimLeft(word, "-")
		switch {
		case arg == "--help" || arg == "-help":
			r.help = true
			return nil
		case arg == "--" && len(rest) == 0:
			continue
		case arg == "--" && r.command() != nil && r.command().ArgsUsage != "":
			r.words = append(r.words, rest...) // whatever they look like
			return nil
		case arg == "--":
			return unexpectedArgument(rest[0])
		case dashed == word && r.command() != nil && r.command().ArgsUsage != "":
			r.words = append(r.words, arg)
			continue
		case dashed == word || dashed == "" || len(word)-len(dashed) > 2:
			return unexpectedArgument(arg)
		}
		o := findOption(options, dashed)
		if o == nil {
			return unknownOption(options, word)
		}
		switch {
		case o.isSwitch():
			if !hasValue {
				value = "true"
			}
		case hasValue:
		case o.words != nil:
			n := o.words(rest)
			value = strings.Join(rest[:n], wordSeparator)
			rest = rest[n:]
		case len(rest) == 0:
			return &usageError{option: "--" + o.name, problem: "needs a value: " + o.valueName()}
		default:
			value, rest = rest[0], rest[1:]
		}
		r.args = append(r.args, "--"+o.name+"="+value)
	}
	return nil
}

func unexpectedArgument(arg string) error {
	return &usageError{problem: fmt.Sprintf("unexpected argument %s; every value belongs to an option, such as -t TOPIC", shown(arg))}
}

// wordSeparator stands between the words of an option that takes several. No
// argument can hold it.
const wordSeparator = "\x00"

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func findOption(options []*option, name string) *option {
	for _, o := range options {
		if o.name == name {
			return o
		}
		for _, also := range o.also {
			if also == name {
				return o
			}
		}
	}
	return nil
}

func unknownCommand(commands []*cli.Command, name string) error {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	problem := fmt.Sprintf("there is no command %s", shown(name))
	if near := nearest(name, names); near != "" {
		problem += fmt.Sprintf("; did you mean %s?", near)
	} else {
		problem += "; there are " + strings.Join(names, ", ")
	}
	return &usageError{problem: problem}
}

func unknownOption(options []*option, word string) error {
	var names []string
	for _, o := range options {
		if o.hidden {
			continue
		}
		names = append(names, o.name)
		for _, also := range o.also {
			if len(also) > 1 {
				names = append(names, also)
			}
		}
	}
	problem := "is not an option"
	if near := nearest(strings.TrimLeft(word, "-"), names); near != "" {
		problem += fmt.Sprintf("; did you mean --%s?", near)
	}
	const most = 60
	word = redacted(word)
	if len(word) > most { // -t and a long topic, without a space
		word = strings.ToValidUTF8(word[:most], "") + "…"
	}
	return &usageError{option: word, problem: problem}
}

// nearest is the name with the fewest changes to the one that was typed, if
// they are few enough for a slip; empty otherwise.
func nearest(typed string, names []string) string {
	best, least := "", min(max(2, len(typed)/3)+1, len(typed))
	for _, n := range names {
		if d := distance(typed, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements of bytes between
// two names (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
