package main

import (
	"context"
	"encoding/json"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// build is what the binary knows of itself.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Paho     string `json:"paho,omitempty"`
}

func readBuild() build {
	b := build{Version: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" {
		b.Version = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/eclipse/paho.golang" {
			b.Paho = d.Version
		}
	}
	return b
}

func versionCommand(sh *shell) *cli.Command {
	asJSON := false
	return &cli.Command{
		Name:      "version",
		Usage:     "tell the version",
		UsageText: "oncemq version [--json]",
		Description: `
Examples:
  oncemq version --json`,
		Flags: toFlags([]*option{{
			name: "json", set: on(&asJSON), usage: "print a JSON object",
		}}),
		Action: action(sh, func(context.Context, []string) error {
			b := readBuild()
			if asJSON {
				return json.NewEncoder(sh.stdout).Encode(b)
			}
			text := "oncemq " + b.Version
			if b.Revision != "" {
				text += " (" + b.Revision + ")"
			}
			text += ", " + b.Go
			if b.Paho != "" {
				text += ", paho.golang " + b.Paho
			}
			var t table
			if _, width, _ := terminal(sh.stdout); width < narrow {
				t.width = width
			}
			t.line("", text, 0)
			_, err := io.WriteString(sh.stdout, t.b.String())
			return err
		}),
	}
}
