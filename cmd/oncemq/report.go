package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// reporter writes what the user should know to stderr: a line at a time, from
// any goroutine, as text or as JSON.
//
// Two kinds of lines come together here: those of the command itself, and, with
// --debug, the library's log.
type reporter struct {
	command string // "oncemq pub"

	mu     sync.Mutex // guards the following, and writing
	w      io.Writer
	json   bool
	quiet  bool
	debug  bool
	before func() // called with mu held before a line, to make room on a terminal
}

func newReporter(w io.Writer, command string) *reporter {
	return &reporter{w: w, command: command}
}

// configure takes the options that concern messages.
func (r *reporter) configure(o *reportOptions) {
	r.mu.Lock()
	r.json, r.quiet, r.debug = o.format == "json", o.quiet, o.debug
	r.mu.Unlock()
	if o.config.warning != "" {
		r.warn("%s", o.config.warning)
	}
}

// usage tells of a mistake in the command line, with a hint.
func (r *reporter) usage(err *usageError) {
	r.line(slog.LevelError, err.Error()+" (see "+r.command+" --help)")
}

// failure tells why the command fails.
func (r *reporter) failure(text string) { r.line(slog.LevelError, text) }

// warn tells what the user should look at.
func (r *reporter) warn(format string, args ...any) {
	r.line(slog.LevelWarn, fmt.Sprintf(format, args...))
}

// info tells what is going on, unless --quiet was asked for.
func (r *reporter) info(format string, args ...any) {
	r.line(slog.LevelInfo, fmt.Sprintf(format, args...))
}

// debugf tells what only --debug asks for.
func (r *reporter) debugf(format string, args ...any) {
	r.mu.Lock()
	wanted := r.debug
	r.mu.Unlock()
	if wanted {
		r.line(slog.LevelDebug, fmt.Sprintf(format, args...))
	}
}

func (r *reporter) line(level slog.Level, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.quiet && level < slog.LevelError {
		return
	}
	if r.before != nil {
		r.before()
	}
	if r.json {
		log := slog.New(slog.NewJSONHandler(r.w, &slog.HandlerOptions{Level: slog.LevelDebug}))
		//nolint:sloglint // the text is made for the user; there is no constant one
		log.Log(context.Background(), level, text, "command", r.command)
		return
	}
	// Nobody is left to tell if stderr is gone.
	_, _ = fmt.Fprintf(r.w, "%s: %s\n", r.command, visible(text))
}

// plain writes a line as it is, the last one of pub -l for one.
func (r *reporter) plain(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.quiet {
		return
	}
	if r.before != nil {
		r.before()
	}
	_, _ = io.WriteString(r.w, line+"\n")
}

// block writes what is refreshed in place: it stays until what setBefore has set
// takes it away.
func (r *reporter) block(write func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before != nil {
		r.before()
	}
	write()
}

func (r *reporter) isQuiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quiet
}

// setBefore sets what is to happen before each line.
func (r *reporter) setBefore(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = fn
}

// Write takes lines of the library's log.
func (r *reporter) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before != nil {
		r.before()
	}
	return r.w.Write(p)
}

// logger is the library's: silent unless --debug was asked for, since what the
// user needs to know comes as events.
func (r *reporter) logger() *slog.Logger {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.debug:
		return slog.New(slog.DiscardHandler)
	case r.json:
		return slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// visible replaces control characters, which a broker's reason string or a topic
// could bring to the terminal.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return '\ufffd'
		}
		return c
	}, s)
}

// reportOptions are the options that concern messages on stderr.
type reportOptions struct {
	debug, quiet bool
	format       string
	config       configOptions
}

const catReport = "Messages on standard error"

func (o *reportOptions) options() []*option {
	o.format = "text"
	return append(withEnv([]*option{
		{
			name: "debug", also: []string{"d"}, category: catReport, set: on(&o.debug),
			usage: "say what happens, connection by connection",
		},
		{
			name: "quiet", category: catReport, set: on(&o.quiet),
			usage: "say nothing but why the command fails",
		},
		{
			name: "log-format", category: catReport, set: oneOf(&o.format, "text", "json"), choices: []string{"text", "json"}, def: "text",
			usage: "`FORMAT` of messages: text or json, one object a line", settle: func(log *reporter) { log.configure(o) },
		},
	}), o.config.options()...)
}
