package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// statsOptions are --stats, of commands that run on.
type statsOptions struct {
	interval time.Duration // zero: none
}

const (
	defaultStats = 2 * time.Second
	leastStats   = 100 * time.Millisecond
	// statsPatience bounds the look at the store.
	statsPatience = 2 * time.Second
)

func (o *statsOptions) options() []*option {
	return withEnv([]*option{{
		name: "stats", category: catReport, set: o.set, words: spanWords, def: "2s",
		usage: "say every `INTERVAL` how connections, outbox and messages are doing: in place on a terminal, unless " +
			"messages are printed to one too; elsewhere a line of JSON, and one more at the end. On standard error, " +
			"since standard output is for data",
	}})
}

func (o *statsOptions) set(s string) error {
	switch s {
	case "", "true", "on", "yes":
		o.interval = defaultStats
		return nil
	case "false", "off", "no":
		o.interval = 0
		return nil
	}
	d, err := parseSpan(s)
	switch {
	case err != nil:
		return err
	case d < leastStats:
		return fmt.Errorf("%s is too short; use %s or more", d, leastStats)
	}
	o.interval = d
	return nil
}

// spanWords tells whether the next argument is the interval: it may be left out.
func spanWords(rest []string) int {
	if len(rest) > 0 {
		if _, err := parseSpan(rest[0]); err == nil {
			return 1
		}
	}
	return 0
}

// start shows a client's status until stopped. With printing, the command prints
// messages to standard output, between which nothing can be refreshed in place if
// that is the same terminal.
func (o *statsOptions) start(ctx context.Context, sh *shell, client *autopaho.Client, printing bool) (stop func()) {
	if o.interval == 0 {
		return func() {}
	}
	s := &statsDisplay{sh: sh, client: client}
	is, width, _ := terminal(sh.stderr)
	out, _, _ := terminal(sh.stdout)
	if is && (!printing || !out) {
		s.screen = newScreen(sh.stderr, width)
		sh.log.setBefore(s.screen.clear)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var joined sync.WaitGroup
	joined.Go(func() { s.run(ctx, o.interval) })
	return func() {
		cancel()
		joined.Wait()
		s.show(context.WithoutCancel(ctx))
		sh.log.setBefore(nil)
	}
}

// statsDisplay shows the status of a client.
type statsDisplay struct {
	sh     *shell
	client *autopaho.Client
	screen *screen // nil: JSON
}

func (s *statsDisplay) run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.show(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (s *statsDisplay) show(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statsPatience)
	defer cancel()
	status := s.client.Status(ctx)
	if errors.Is(status.StoreErr, context.Canceled) {
		return // the command ends, and shows its last
	}
	now := time.Now()
	if s.screen == nil {
		line, err := marshalLine(newClientObject(&status, now))
		if err == nil {
			_, _ = s.sh.log.Write(line) // nobody is left to tell
		}
		return
	}
	s.screen.show(s.sh.log, clientLines(&status, now))
}

// screen is lines that are refreshed in place on a terminal.
type screen struct {
	w     io.Writer
	width int
	lines int // that stand there; guarded by the reporter
}

func newScreen(w io.Writer, width int) *screen {
	if width <= 0 {
		width = 80
	}
	return &screen{w: w, width: width}
}

// clear takes the lines away. The reporter calls it before it writes.
func (s *screen) clear() {
	if s.lines > 0 {
		_, _ = fmt.Fprintf(s.w, "\x1b[%dA\r\x1b[J", s.lines) // nobody is left to tell
		s.lines = 0
	}
}

// show writes lines in place of those that stand there; what is wider than the
// terminal is cut, since a line that wraps could not be taken away.
func (s *screen) show(log *reporter, lines []string) {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(cutTo(l, s.width-1))
		b.WriteByte('\n')
	}
	log.block(func() {
		_, _ = io.WriteString(s.w, b.String()) // nobody is left to tell
		s.lines = len(lines)
	})
}

// cutTo is the first characters of a line.
func cutTo(line string, width int) string {
	n := 0
	for i := range line {
		if n == max(width, 1) {
			return line[:i]
		}
		n++
	}
	return line
}
