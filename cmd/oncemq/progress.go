package main

import (
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	// progressAfter is how long a run may take before it shows a bar.
	progressAfter    = time.Second
	progressInterval = 100 * time.Millisecond
)

// progress shows how many messages are settled, on a terminal.
type progress struct {
	end    chan struct{}
	joined sync.WaitGroup
}

// startProgress shows a bar on stderr if that is a terminal. Its stop ends it in
// any case.
func startProgress(sh *shell, l *ledger) *progress {
	p := &progress{end: make(chan struct{})}
	f, ok := sh.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || sh.log.isQuiet() {
		return p
	}
	p.joined.Go(func() { p.run(sh, l) })
	return p
}

func (p *progress) run(sh *shell, l *ledger) {
	wait := time.NewTimer(progressAfter)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-p.end:
		return
	}
	bar := progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(sh.stderr), progressbar.OptionSetDescription("delivered"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("msg"),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionFullWidth(),
	)
	// A bar that cannot be drawn is not worth a word.
	sh.log.setBefore(func() { _ = bar.Clear() })
	defer func() {
		sh.log.setBefore(nil)
		_ = bar.Clear()
	}()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c, _, _ := l.tally()
			bar.ChangeMax64(max(c.stored, c.settled(), 1))
			_ = bar.Set64(c.settled())
		case <-p.end:
			return
		}
	}
}

func (p *progress) stop() {
	close(p.end)
	p.joined.Wait()
}
