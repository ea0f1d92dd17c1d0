package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

func manCommand(sh *shell) *cli.Command {
	o := new(manOptions)
	return &cli.Command{
		Name:      "man",
		Usage:     "print the manual page of a command, or write those of all",
		UsageText: "oncemq man [COMMAND ...] | oncemq man --dir DIRECTORY",
		ArgsUsage: "[COMMAND ...]",
		Description: `
Examples:
  oncemq man sub | man -l -
  oncemq man --dir /usr/local/share/man/man1`,
		Flags: toFlags(o.options()),
		Action: action(sh, func(_ context.Context, args []string) error {
			pages := manPages(newApp(&shell{}))
			if o.dir != "" {
				if len(args) > 0 {
					return &usageError{option: "--dir", problem: "has the pages of all commands written; leave the command out"}
				}
				return writePages(o.dir, pages)
			}
			name := strings.Join(append([]string{"oncemq"}, args...), "-")
			for _, p := range pages {
				if p.name == name {
					_, err := io.WriteString(sh.stdout, p.text)
					return err
				}
			}
			return &usageError{problem: fmt.Sprintf("there is no command %s; oncemq --help lists them", shown(strings.Join(args, " ")))}
		}),
	}
}

type manOptions struct{ dir string }

func (o *manOptions) options() []*option {
	return []*option{{name: "dir", set: name(&o.dir), usage: "write the pages of all commands into a `DIRECTORY`"}}
}

// manPage is a manual page of section 1, in the man macros of troff.
type manPage struct {
	name string // "oncemq-pub"
	text string
}

func writePages(dir string, pages []manPage) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // manual pages are for everybody
		return &exitError{code: exitFailed, text: "--dir", err: err}
	}
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(dir, p.name+".1"), []byte(p.text), 0o644); err != nil { //nolint:gosec // as above
			return &exitError{code: exitFailed, text: "--dir", err: err}
		}
	}
	return nil
}

// manPages are the pages of oncemq and of all its commands.
func manPages(app *cli.App) []manPage {
	pages := []manPage{pageOfApp(app)}
	var add func(commands []*cli.Command, path []string)
	add = func(commands []*cli.Command, path []string) {
		for _, c := range commands {
			if c.Hidden {
				continue
			}
			own := append(path[:len(path):len(path)], c.Name)
			pages = append(pages, pageOf(c, own))
			add(c.Subcommands, own)
		}
	}
	add(app.Commands, []string{"oncemq"})
	return pages
}

func pageOfApp(app *cli.App) manPage {
	var b strings.Builder
	manHead(&b, "oncemq", app.Usage)
	b.WriteString(".SH SYNOPSIS\n\\fBoncemq\\fR \\fICOMMAND\\fR [options]\n.SH DESCRIPTION\n")
	manText(&b, app.Description)
	manCommands(&b, app.Commands, "oncemq")
	manFiles(&b)
	return manPage{"oncemq", b.String()}
}

func pageOf(c *cli.Command, path []string) manPage {
	var b strings.Builder
	name := strings.Join(path, "-")
	manHead(&b, name, c.Usage)
	synopsis, rest, _ := strings.Cut(strings.TrimSpace(c.UsageText), "\n")
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s\n", manLine(synopsis))
	if rest+c.Description != "" {
		b.WriteString(".SH DESCRIPTION\n")
		manText(&b, rest)
		manText(&b, c.Description)
	}
	manCommands(&b, c.Subcommands, name)
	manOptionsOf(&b, c)
	b.WriteString(".SH SEE ALSO\n")
	var also []string
	for i := 1; i < len(path); i++ {
		also = append(also, "\\fB"+manEscape(strings.Join(path[:i], "-"))+"\\fR(1)")
	}
	b.WriteString(strings.Join(also, ",\n") + "\n")
	return manPage{name, b.String()}
}

func manHead(b *strings.Builder, name, usage string) {
	fmt.Fprintf(b, ".TH %q 1 \"\" \"oncemq\" \"oncemq\"\n.nh\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), manEscape(name), manEscape(usage))
}

func manCommands(b *strings.Builder, commands []*cli.Command, parent string) {
	if len(commands) == 0 {
		return
	}
	b.WriteString(".SH COMMANDS\n")
	for _, c := range commands {
		if !c.Hidden {
			fmt.Fprintf(b, ".TP\n\\fB%s\\fR(1)\n%s\n", manEscape(parent+"-"+c.Name), manLine(c.Usage))
		}
	}
}

func manFiles(b *strings.Builder) {
	b.WriteString(".SH FILES\n.TP\n\\fI$XDG_CONFIG_HOME/oncemq/config.yaml\\fR, \\fI~/.config/oncemq/config.yaml\\fR\n" +
		"options by their long names; see \\-\\-config\n" +
		".TP\n\\fI$XDG_STATE_HOME/oncemq/outbox.db\\fR, \\fI~/.local/state/oncemq/outbox.db\\fR\nthe store; see \\-\\-store\n")
}

// manOptionsOf writes the options by their categories, as the help does.
func manOptionsOf(b *strings.Builder, c *cli.Command) {
	titled := false
	category := ""
	for _, f := range c.Flags {
		var heads []string
		var value, usage string
		switch f := f.(type) {
		case *option:
			if f.hidden {
				continue
			}
			heads, value, usage = f.completed().names, f.valueName(), f.usage
			if f.def != "" {
				usage += " (default " + f.def + ")"
			}
			if f.env != "" {
				usage += " [$" + f.env + "]"
			}
			if f.category != category && f.category != "" {
				if !titled {
					b.WriteString(".SH OPTIONS\n")
					titled = true
				}
				category = f.category
				fmt.Fprintf(b, ".SS %q\n", category)
			}
		case cli.DocGenerationFlag:
			for _, n := range f.Names() {
				heads = append(heads, dashed(n))
			}
			usage = f.GetUsage()
		}
		if !titled {
			b.WriteString(".SH OPTIONS\n")
			titled = true
		}
		for i, h := range heads {
			heads[i] = "\\fB" + manEscape(h) + "\\fR"
		}
		head := strings.Join(heads, ", ")
		if value != "" {
			head += " \\fI" + manEscape(value) + "\\fR"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", head, manLine(strings.ReplaceAll(usage, "`", "")))
	}
}

// manText writes paragraphs; a line that is indented stands as it is.
func manText(b *strings.Builder, text string) {
	example := false
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented != example {
			if indented {
				b.WriteString(".nf\n.RS 4\n")
			} else {
				b.WriteString(".RE\n.fi\n")
			}
			example = indented
		}
		switch {
		case line == "":
			b.WriteString(".PP\n")
		case indented:
			b.WriteString(manLine(strings.TrimPrefix(line, "  ")) + "\n")
		default:
			b.WriteString(manLine(line) + "\n")
		}
	}
	if example {
		b.WriteString(".RE\n.fi\n")
	}
}

// manLine is a line of text, which must not be taken for a request.
func manLine(s string) string {
	s = manEscape(strings.Join(strings.Split(s, "\n"), " "))
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

// manEscape escapes what has a meaning to troff. Hyphens stay those that one can type.
func manEscape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", "\\`", "^", `\(ha`, "~", `\(ti`, "∞", `\(if`).Replace(s)
}
