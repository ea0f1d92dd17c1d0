package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// configOptions tell which configuration file to read, and what of it.
//
// The file is YAML. Its keys are the long names of options of any command; those that a
// command does not have are passed over by it. A list is for an option that may be given
// several times. What stands below a name in profiles goes before the rest when that
// profile is chosen.
type configOptions struct {
	file, profile string
	warning       string // about who can read it
}

const catConfig = "Configuration"

// maxConfigFile is the largest configuration file in bytes.
const maxConfigFile = 1 << 20

func (o *configOptions) options() []*option {
	return withEnv([]*option{
		{
			name: "config", category: catConfig, set: name(&o.file), config: o,
			def:   "oncemq/config.yaml in $XDG_CONFIG_HOME or ~/.config, if it is there",
			usage: "YAML `FILE` with options by their long names; the environment and the command line go before it",
		},
		{
			name: "profile", category: catConfig, set: name(&o.profile),
			usage: "`NAME` of the options below profiles in the file that go before its others",
		},
	})
}

// readConfig reads those options from the configuration file that were not given nearer
// by.
func readConfig(ctx context.Context, options []*option, lookup func(string) (string, bool)) error {
	i := slices.IndexFunc(options, func(o *option) bool { return o.config != nil })
	if i < 0 {
		return nil
	}
	o := options[i].config
	file := o.file
	if file == "" {
		if file = defaultConfig(lookup); file == "" {
			return o.needsFile()
		}
	}
	data, err := readStart(ctx, file, maxConfigFile+1)
	var ended *exitError
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.file == "":
		return o.needsFile()
	case errors.As(err, &ended):
		return &exitError{code: ended.code, text: "--config", err: err}
	case err != nil:
		return &usageError{option: "--config", problem: err.Error()}
	}
	c := configFile{name: file, options: options}
	c.known, c.also = knownOptions()
	if err := c.read(data, o); err != nil {
		return err
	}
	if info, err := os.Stat(file); err == nil && c.secret != "" && info.Mode().Perm()&0o077 != 0 {
		o.warning = fmt.Sprintf("%s holds a password (%s) and can be read by others; use password-file, or chmod 600", file, c.secret)
	}
	return nil
}

// needsFile is the error of a profile without a file.
func (o *configOptions) needsFile() error {
	if o.profile == "" {
		return nil
	}
	return &usageError{option: "--profile", problem: "there is no configuration file that could hold it; give --config, or write ~/.config/oncemq/config.yaml"}
}

// defaultConfig is the file of this user; empty if there is no place for one.
func defaultConfig(lookup func(string) (string, bool)) string {
	dir, ok := lookup("XDG_CONFIG_HOME")
	if !ok || !filepath.IsAbs(dir) { // a relative one is invalid and ignored
		home, ok := lookup("HOME")
		if !ok || home == "" {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "oncemq", "config.yaml")
}

// configFile is a configuration file while it is read.
type configFile struct {
	name    string
	options []*option
	known   map[string]bool
	also    map[string]string
	secret  string // a key that holds a password
}

func (f *configFile) fault(line int, key, problem string) error {
	at := f.name
	if line > 0 {
		at += fmt.Sprintf(":%d", line)
	}
	if key != "" {
		at += ": " + key
	}
	return &usageError{option: at, problem: problem}
}

// read sets the options that the file gives: those of the profile first, which close
// the same ones below.
func (f *configFile) read(data []byte, o *configOptions) error {
	root, err := f.document(data)
	if err != nil || root == nil {
		return err
	}
	keys, err := f.mapping(root, "the file")
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.name == "profile" && o.profile == "" {
			if k.value.Kind != yaml.ScalarNode || k.value.Value == "" {
				return f.fault(k.line, k.name, "is not the name of a profile")
			}
			o.profile = k.value.Value
		}
	}
	var profiles []configKey
	for _, k := range keys {
		if k.name == "profiles" {
			if profiles, err = f.mapping(k.value, "profiles"); err != nil {
				return err
			}
		}
	}
	found := o.profile == ""
	var names []string
	for _, p := range profiles {
		names = append(names, p.name)
		own, err := f.mapping(p.value, p.name)
		if err != nil {
			return err
		}
		// All are checked, whichever is used.
		if err := f.apply(own, p.name == o.profile); err != nil {
			return err
		}
		found = found || p.name == o.profile
	}
	if !found {
		problem := fmt.Sprintf("there is no profile %s in %s", shown(o.profile), f.name)
		if near := nearest(o.profile, names); near != "" {
			problem += "; did you mean " + near + "?"
		} else if len(names) > 0 {
			problem += "; there are " + strings.Join(names, ", ")
		}
		return &usageError{option: "--profile", problem: problem}
	}
	return f.apply(slices.DeleteFunc(keys, func(k configKey) bool { return k.name == "profile" || k.name == "profiles" }), true)
}

// configKey is a key with its value.
type configKey struct {
	name  string
	line  int
	value *yaml.Node
}

// document is the content of the file; nil if there is none.
func (f *configFile) document(data []byte) (*yaml.Node, error) {
	switch {
	case len(data) > maxConfigFile:
		return nil, f.fault(0, "", fmt.Sprintf("is too large; a configuration file has at most %d bytes", maxConfigFile))
	case !utf8.Valid(data):
		valid := 0
		for r, size := utf8.DecodeRune(data); r != utf8.RuneError || size > 1; r, size = utf8.DecodeRune(data[valid:]) {
			valid += size
		}
		return nil, f.fault(1+bytes.Count(data[:valid], []byte("\n")), "", "is not UTF-8 here; save it as UTF-8")
	}
	var docs []yaml.Node
	if err := yaml.Load(data, &docs, yaml.WithAllDocuments()); err != nil {
		line, problem := 0, err.Error()
		var load *yaml.LoadError
		if errors.As(err, &load) {
			line, problem = load.Mark.Line, load.Message
		}
		return nil, f.fault(line, "", "is not YAML: "+visible(oneLine(errors.New(problem))))
	}
	if len(docs) > 1 {
		return nil, f.fault(docs[1].Line, "", "has a second document here; write one")
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 || docs[0].Content[0].Tag == "!!null" {
		return nil, nil // empty, or comments only
	}
	return docs[0].Content[0], nil
}

// mapping are the keys of a mapping.
func (f *configFile) mapping(n *yaml.Node, what string) ([]configKey, error) {
	if n.Kind != yaml.MappingNode {
		return nil, f.fault(n.Line, "", what+" must be options, such as host: broker.example")
	}
	var keys []configKey
	lines := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := configKey{n.Content[i].Value, n.Content[i].Line, n.Content[i+1]}
		if first := lines[k.name]; first > 0 {
			return nil, f.fault(k.line, shown(k.name), fmt.Sprintf("stands in line %d already; leave one", first))
		}
		lines[k.name] = k.line
		keys = append(keys, k)
	}
	return keys, nil
}

// apply checks keys, and sets the options of these names that are still open.
func (f *configFile) apply(keys []configKey, used bool) error {
	var given []*option
	for _, k := range keys {
		usable, known := f.known[k.name]
		switch called := f.called(k.name); {
		case usable:
		case called != "":
			return f.fault(k.line, shown(k.name), "is not a key; "+called)
		case !known:
			return f.unknown(k)
		default:
			return f.fault(k.line, k.name, "belongs to one call; give it on the command line")
		}
		values, err := f.values(k)
		if err != nil {
			return err
		}
		f.noteSecret(k.name, values)
		o := findOption(f.options, k.name)
		if o == nil || !used || o.given || o.closed || o.env == "" || o.name != k.name {
			continue
		}
		if len(values) > 1 && !o.many {
			return f.fault(k.line, k.name, "is a list, and may be given once")
		}
		for _, v := range values {
			if err := o.set(v.Value); err != nil {
				return f.fault(v.Line, k.name, err.Error())
			}
		}
		given = append(given, o)
	}
	for _, o := range given {
		o.given = true
	}
	closeExcluded(given)
	return nil
}

func (f *configFile) unknown(k configKey) error {
	var names []string
	for n, usable := range f.known {
		if usable {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	problem := "is not an option"
	if near := nearest(strings.TrimLeft(k.name, "-"), names); near != "" {
		problem += "; did you mean " + near + "?"
	}
	return f.fault(k.line, shown(k.name), problem)
}

// values are the scalars of a key.
func (f *configFile) values(k configKey) ([]*yaml.Node, error) {
	nodes := []*yaml.Node{k.value}
	if k.value.Kind == yaml.SequenceNode {
		nodes = k.value.Content
	}
	for _, n := range nodes {
		switch {
		case n.Kind != yaml.ScalarNode:
			return nil, f.fault(n.Line, k.name, "is neither a value nor a list of values")
		case n.Tag == "!!null":
			return nil, f.fault(n.Line, k.name, "has no value; write one, or leave the key out")
		case strings.Contains(n.Value, "\x00"):
			return nil, f.fault(n.Line, k.name, "has a NUL")
		}
	}
	return nodes, nil
}

// noteSecret notes a key that holds a password.
func (f *configFile) noteSecret(key string, values []*yaml.Node) {
	for _, v := range values {
		u, err := url.Parse(v.Value)
		if err != nil {
			continue
		}
		if _, secret := u.User.Password(); secret {
			f.secret = key
		}
	}
	if key == "pw" {
		f.secret = key
	}
}
