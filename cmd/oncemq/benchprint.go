package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/oncemq/oncemq/load"
)

// live shows how a run goes, a line on a terminal.
type live struct {
	sh    *shell
	width int

	mu   sync.Mutex // guards the following
	drew bool
}

func startLive(sh *shell) *live {
	l := &live{sh: sh}
	is, width, _ := terminal(sh.stderr)
	if !is || sh.log.isQuiet() {
		return l
	}
	l.width = max(width, 20)
	sh.log.setBefore(l.clear)
	return l
}

func (l *live) observe(p load.Progress) {
	if l.width == 0 {
		return
	}
	text := []rune(fmt.Sprintf("%s %s %s/s p50 %s p99 %s", p.Elapsed.Round(time.Second), p.Phase, count(int64(p.Rate)), latency(p.P50), latency(p.P99)))
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.sh.stderr, "\r\x1b[K%s", string(text[:min(len(text), l.width-1)])) // nobody is left to tell if stderr is gone
	l.drew = true
}

func (l *live) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drew {
		_, _ = io.WriteString(l.sh.stderr, "\r\x1b[K") // as above
		l.drew = false
	}
}

func (l *live) stop() {
	l.clear()
	l.sh.log.setBefore(nil)
}

// latency is a duration with three digits.
func latency(d time.Duration) string { return milliseconds(float64(d) / float64(time.Millisecond)) }

func milliseconds(ms float64) string {
	switch {
	case ms >= 10_000:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	case ms >= 100:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	case ms >= 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 2, 64) + " ms"
}

// count is a number with commas.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// benchObject is what bench --json prints.
type benchObject struct {
	load.Result
	Compared    []load.Ratio `json:"compared,omitempty"`
	Differences []string     `json:"differences,omitempty"`
}

// show prints the result, and draws it.
func (o *benchOptions) show(sh *shell, res *load.Result) error {
	object := benchObject{Result: *res}
	if o.before != nil {
		var err error
		if object.Compared, object.Differences, err = res.Compare(o.before); err != nil {
			return err
		}
		for _, d := range object.Differences {
			sh.log.warn("--compare: %s", d)
		}
	}
	var err error
	if o.json {
		err = writeLine(sh.stdout, object)
	} else {
		_, width, _ := terminal(sh.stdout)
		err = writeBench(sh.stdout, &object, width)
	}
	if err != nil {
		return outputError(err)
	}
	if o.plot == "" {
		return nil
	}
	if err := o.draw(res); err != nil {
		return &exitError{code: exitFailed, text: "--plot", err: err}
	}
	return nil
}

// draw writes the picture.
func (o *benchOptions) draw(res *load.Result) error {
	f, err := os.Create(o.plot)
	if err != nil {
		return err
	}
	draw := res.WriteSVG
	if filepath.Ext(o.plot) == ".html" {
		draw = res.WriteHTML
	}
	if err := draw(f); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	return f.Close()
}

// narrow is the width of a terminal below which figures stand below each other.
const narrow = 80

func writeBench(w io.Writer, r *benchObject, width int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) } // Flush tells
	if r.Kind != "sub" {
		row("sent", count(r.Sent))
		row("failed", count(r.Failed))
	}
	if r.Undelivered > 0 {
		row("undelivered", count(r.Undelivered))
	}
	if r.Kind == "sub" || r.Kind == "e2e" {
		row("received", count(r.Received))
		row("duplicates", count(r.Duplicates))
		if r.Suppressed > 0 {
			row("suppressed", count(r.Suppressed))
		}
		row("lost", count(r.Lost))
	}
	row()
	heads := []string{"rate", "p50", "p90", "p99", "p99.9", "max"}
	wide := width == 0 || width >= narrow
	if wide {
		row(append([]string{""}, heads...)...)
	}
	for i := range r.Phases {
		p := &r.Phases[i]
		l := &p.Latency
		values := []string{count(int64(p.Rate)) + "/s", milliseconds(l.P50), milliseconds(l.P90), milliseconds(l.P99), milliseconds(l.P999), milliseconds(l.Max)}
		if wide {
			row(append([]string{p.Name}, values...)...)
			continue
		}
		row(p.Name)
		for k := range heads {
			row("  "+heads[k], values[k])
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	rest := table{width: width}
	if len(r.Compared) > 0 {
		g := grid{width: width, heads: []string{"compared", "before", "now", "ratio"}}
		for _, c := range r.Compared {
			ratio := "-"
			if c.Ratio > 0 {
				ratio = strconv.FormatFloat(c.Ratio, 'f', 2, 64)
			}
			g.line(c.Figure, figure(c.Before), figure(c.Now), ratio)
		}
		rest.b.WriteString("\n" + g.String())
	}
	if r.Kind == "sub" {
		rest.line("", "latency is right as far as the publishers' clocks agree with this one", 0)
	}
	_, err := io.WriteString(w, rest.b.String())
	return err
}

// figure is a number with three digits or so.
func figure(v float64) string {
	switch {
	case v >= 100:
		return count(int64(math.Round(v)))
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
