package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// The help is our own text: urfave/cli's takes -h for --help, and shows neither
// environment variables nor several names as we have them.

// writeHelp writes the help of oncemq or of one command.
func writeHelp(w io.Writer, app *cli.App, r *request) error {
	var b strings.Builder
	c := r.command()
	if c == nil {
		fmt.Fprintf(&b, "oncemq - %s\n\nUsage: oncemq COMMAND [options]\n\n%s\n", app.Usage, strings.TrimSpace(app.Description))
		writeCommands(&b, app.Commands)
		b.WriteString("\nUse \"oncemq help COMMAND\" or \"oncemq COMMAND --help\" for the options of a command.\n")
	} else {
		fmt.Fprintf(&b, "%s - %s\n", r.title(), c.Usage)
		if c.UsageText != "" {
			fmt.Fprintf(&b, "\nUsage: %s\n", strings.TrimSpace(c.UsageText))
		}
		if c.Description != "" {
			fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.Description))
		}
		writeCommands(&b, c.Subcommands)
		writeOptions(&b, c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeCommands(b *strings.Builder, commands []*cli.Command) {
	if len(commands) == 0 {
		return
	}
	b.WriteString("\nCommands:\n")
	for _, c := range commands {
		if !c.Hidden {
			fmt.Fprintf(b, "  %-10s %s\n", c.Name, c.Usage)
		}
	}
}

// writeOptions writes the options by their categories, in the order in which
// these first occur.
func writeOptions(b *strings.Builder, c *cli.Command) {
	var categories []string
	grouped := make(map[string][]string)
	add := func(category, entry string) {
		if _, known := grouped[category]; !known {
			categories = append(categories, category)
		}
		grouped[category] = append(grouped[category], entry)
	}
	for _, f := range c.Flags {
		switch f := f.(type) {
		case *option:
			if !f.hidden {
				add(f.category, f.help())
			}
		case cli.DocGenerationFlag:
			add("", foreignHelp(f))
		}
	}
	for _, category := range categories {
		title := "Options"
		if category != "" {
			title = category
		}
		fmt.Fprintf(b, "\n%s:\n", title)
		for _, entry := range grouped[category] {
			b.WriteString(entry)
		}
	}
}

// helpColumn is where the explanations of options begin, helpWidth where they
// end.
const (
	helpColumn = 6
	helpWidth  = 80
)

// help is the option's entry: its names on one line, the explanation below.
func (o *option) help() string {
	var names []string
	for _, also := range o.also {
		if len(also) == 1 {
			names = append(names, "-"+also)
		}
	}
	names = append(names, "--"+o.name)
	for _, also := range o.also {
		if len(also) > 1 {
			names = append(names, "--"+also)
		}
	}
	head := strings.Join(names, ", ")
	if v := o.valueName(); v != "" {
		head += " " + v
	}
	usage := strings.ReplaceAll(o.usage, "`", "")
	if o.def != "" {
		usage += " (default " + o.def + ")"
	}
	if o.env != "" {
		usage += " [$" + o.env + "]"
	}
	return "  " + head + "\n" + wrap(usage, helpColumn, helpWidth)
}

// valueName is what stands in backquotes in the usage.
func (o *option) valueName() string {
	_, rest, _ := strings.Cut(o.usage, "`")
	value, _, _ := strings.Cut(rest, "`")
	return value
}

// foreignHelp is the entry of an option of urfave/cli's own kinds.
func foreignHelp(f cli.DocGenerationFlag) string {
	var names []string
	for _, n := range f.Names() {
		if len(n) == 1 {
			names = append(names, "-"+n)
		} else {
			names = append(names, "--"+n)
		}
	}
	head := strings.Join(names, ", ")
	usage := f.GetUsage()
	if f.TakesValue() {
		value := "VALUE"
		if _, rest, ok := strings.Cut(usage, "`"); ok {
			value, _, _ = strings.Cut(rest, "`")
		}
		head += " " + value
		if d := f.GetDefaultText(); d != "" {
			usage += " (default " + d + ")"
		}
	}
	return "  " + head + "\n" + wrap(strings.ReplaceAll(usage, "`", ""), helpColumn, helpWidth)
}

// wrap breaks a text into lines of a width, indented, between words.
func wrap(s string, indent, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(s) {
		switch {
		case column == 0:
			b.WriteString(strings.Repeat(" ", indent))
			column = indent
		case column+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String() + "\n"
}
