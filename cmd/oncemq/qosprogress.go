package main

import (
	"fmt"
	"io"
	"sync"

	"github.com/oncemq/oncemq/qos/comparison"
)

// qosProgress shows how far a comparison is: a line that is refreshed in place, on
// a terminal only.
type qosProgress struct {
	w     io.Writer
	width int // 0: nothing is shown

	mu    sync.Mutex // guards the following, and writing
	shown bool
}

func startQoSProgress(sh *shell) *qosProgress {
	p := &qosProgress{w: sh.stderr}
	if is, width, _ := terminal(sh.stderr); is && !sh.log.isQuiet() {
		p.width = width
		if p.width <= 0 {
			p.width = 80
		}
		sh.log.setBefore(p.clear)
	}
	return p
}

func (p *qosProgress) observe(at comparison.Progress) {
	if p.width == 0 {
		return
	}
	line := fmt.Sprintf("%s link, QoS %s: %d of %d sent, %d seen", at.Link, at.Level, at.Sent, at.Of, at.Seen)
	line = line[:min(len(line), max(1, p.width-1))] // ASCII; a line that wraps could not be refreshed
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.w, "\r\x1b[K"+line) // nobody is left to tell
	p.shown = true
}

// clear takes the line away.
func (p *qosProgress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}
