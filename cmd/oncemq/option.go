package main

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// option is one option of a command, for urfave/cli. It has one name there: the
// others are turned into it before (args.go), so that two of them may stand in
// one command line.
type option struct {
	// name is the long name, without dashes, also lists the other names.
	name string
	also []string
	// category groups options in the help. Usage holds the value's name in
	// backquotes; an option without one takes no value.
	category, usage string
	// def is the default as the help shows it.
	def string
	// env is the environment variable; empty if there is none.
	env string
	// secret tells whether a value holds a secret, which is kept from commands of the
	// user; nil is never.
	secret func(value string) bool
	// choices are all values that there are; nil if these cannot be counted.
	choices []string
	// many tells that the option may be given several times.
	many bool
	// hidden keeps the option out of the help: it is refused.
	hidden bool
	// excludes are the options that have no say where this one was given nearer by: on
	// the command line, which goes before the environment, which goes before the file.
	excludes []*option
	// config is set for the option that names the configuration file.
	config *configOptions
	// alone looks for what cannot stand beside the option on the command line. It is asked
	// before the environment is read, over which the command line goes; nil has nothing to
	// look for.
	alone func() error
	// settle is called once all options have their values, if it is not nil.
	settle func(log *reporter)
	// bound is set for the option that bounds the time of the whole command: it points to
	// its value, which is zero for no bound.
	bound *time.Duration
	// words tells how many of the following arguments belong to the option, for
	// the one whose value is several. Nil means one, or none for a switch.
	words func(rest []string) int
	// set takes the value; "true" or "false" for a switch.
	set func(value string) error

	given bool // on the command line, in the environment or in the file
	// near tells that it was given on the command line. What stands in the environment or
	// in the file may be meant for other calls: where it means nothing it is ignored.
	near   bool
	closed bool // one that excludes it was given nearer by
	fault  *usageError
}

var (
	_ cli.Flag   = (*option)(nil)
	_ flag.Value = (*option)(nil)
)

// isSwitch tells whether the option takes no value.
func (o *option) isSwitch() bool { return !strings.Contains(o.usage, "`") }

// Apply adds the option to the set that parses the command line.
func (o *option) Apply(set *flag.FlagSet) error {
	set.Var(o, o.name, o.usage)
	return nil
}

// Names is the one name that urfave/cli sees.
func (o *option) Names() []string { return []string{o.name} }

// IsSet tells whether the option was given.
func (o *option) IsSet() bool { return o.given }

// IsBoolFlag is asked by package flag.
func (o *option) IsBoolFlag() bool { return o.isSwitch() }

// String is nothing: package flag asks for defaults, which the help knows.
func (o *option) String() string { return "" }

// Set takes a value from the command line. What is wrong with it is kept, since
// package flag makes another text of it.
func (o *option) Set(value string) error {
	if err := o.set(value); err != nil {
		if o.fault == nil {
			o.fault = &usageError{option: "--" + o.name, problem: err.Error()}
		}
		return o.fault
	}
	o.given, o.near = true, true
	return nil
}

// refused is an option of others that is refused with a sentence that says why.
func refused(name, value, why string) *option {
	usage := why
	if value != "" {
		usage = "`" + value + "`: " + why
	}
	return &option{name: name, usage: usage, hidden: true, set: func(string) error { return errors.New(why) }}
}

// environ reads the options that were not given from the environment, and then from
// the configuration file if there is one.
func environ(ctx context.Context, options []*option, lookup func(string) (string, bool)) error {
	closeExcluded(options)
	for _, o := range options {
		if o.given || o.closed || o.env == "" {
			continue
		}
		value, ok := lookup(o.env)
		if !ok || value == "" {
			continue
		}
		if err := o.set(value); err != nil {
			return &usageError{option: o.env, problem: err.Error()}
		}
		o.given = true
	}
	closeExcluded(options)
	return readConfig(ctx, options, lookup)
}

// closeExcluded closes what options exclude that were given.
func closeExcluded(options []*option) {
	for _, o := range options {
		if o.given {
			for _, other := range o.excludes {
				other.closed = true
			}
		}
	}
}

// withEnv gives every option its environment variable, but for those whose
// value belongs to one call.
func withEnv(options []*option, but ...string) []*option {
	for _, o := range options {
		if o.env == "" {
			o.env = "ONCEMQ_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
		}
		for _, name := range but {
			if o.name == name {
				o.env = ""
			}
		}
	}
	return options
}

// deleteOf takes the options of a category out.
func deleteOf(options []*option, category string, out *[]*option) []*option {
	var rest []*option
	for _, o := range options {
		if o.category == category {
			*out = append(*out, o)
		} else {
			rest = append(rest, o)
		}
	}
	return rest
}

// without leaves options out; they keep their defaults.
func without(options []*option, names ...string) []*option {
	return slices.DeleteFunc(slices.Clone(options), func(o *option) bool { return slices.Contains(names, o.name) })
}

// only are the options of some names.
func only(options []*option, names ...string) []*option {
	return slices.DeleteFunc(slices.Clone(options), func(o *option) bool { return !slices.Contains(names, o.name) })
}

// toFlags are the options as urfave/cli takes them.
func toFlags(options []*option) []cli.Flag {
	flags := make([]cli.Flag, len(options))
	for i, o := range options {
		flags[i] = o
	}
	return flags
}

// optionsOf are a command's options, if it is one of ours in that respect.
func optionsOf(c *cli.Command) []*option {
	var options []*option
	for _, f := range c.Flags {
		if o, ok := f.(*option); ok {
			options = append(options, o)
		}
	}
	return options
}
