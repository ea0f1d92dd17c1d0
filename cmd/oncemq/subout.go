package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// filer appends the messages of a subscriber to a file: batch by batch, each with
// one write and one sync, which its acknowledgements wait for.
type filer struct {
	*subscriber
	watching sync.WaitGroup

	mu   sync.Mutex // guards file
	file *outFile

	// Used by the one goroutine that runs the handler. kept are those of a batch that
	// went beyond the end of the run that are through.
	buf  []byte
	kept map[*autopaho.Received]bool
}

// outRetry is how often a file that could not be written is tried again.
const outRetry = time.Second

var errBeyondEnd = errors.New("the batch goes beyond the end of the run")

// openFiler opens the file of --out, and opens it anew at every SIGHUP.
func openFiler(ctx context.Context, s *subscriber) (*filer, error) {
	file, torn, err := openOutFile(s.o.out, s.print.end == "\n")
	switch {
	case errors.Is(err, errNotRegular):
		return nil, &usageError{option: "--out", problem: strconv.Quote(s.o.out) + " " + err.Error()}
	case err != nil:
		return nil, &exitError{code: exitFailed, text: "--out", err: err}
	}
	f := &filer{subscriber: s, file: file}
	f.tellTorn(torn)
	hangups, stop := onHangup(ctx)
	f.watching.Go(func() {
		defer stop()
		for {
			select {
			case <-s.ended:
				return
			case <-hangups:
				f.reopen()
			}
		}
	})
	return f, nil
}

func (f *filer) tellTorn(file string) {
	if file != "" {
		f.sh.log.warn("the last line of %s was torn, by a crash while it was written; the piece is in %s now, and its message comes again", strconv.Quote(f.o.out), strconv.Quote(file))
	}
}

func (f *filer) reopen() {
	f.mu.Lock()
	torn, err := f.file.reopen()
	f.mu.Unlock()
	f.tellTorn(torn)
	if err != nil {
		f.sh.log.warn("--out: the file was not opened anew, and the old one is still written: %s", oneLine(err))
		return
	}
	f.sh.log.debugf("%s is open anew", f.o.out)
}

// close closes the file; s.ended is closed.
func (f *filer) close() error {
	f.watching.Wait()
	return f.file.close()
}

// handle appends a batch.
func (f *filer) handle(ctx context.Context, msgs []*autopaho.Received) error {
	if f.kept[msgs[0]] && len(msgs) == 1 {
		delete(f.kept, msgs[0])
		return nil
	}
	wanted, ends := make([]*autopaho.Received, 0, len(msgs)), len(msgs)
	for i, m := range msgs {
		skip, end := f.o.skips(m)
		if end { // what came before it counts
			ends = i
			break
		}
		if !skip {
			wanted = append(wanted, m)
		}
	}
	if ends == 0 {
		f.end(nil)
		return autopaho.ErrRelease
	}
	n := f.reserve(len(wanted))
	if n == 0 && len(wanted) > 0 {
		return autopaho.ErrRelease // not ours any more: the next one gets them
	}
	f.buf = f.buf[:0]
	for _, m := range wanted[:n] {
		f.buf = f.printed(f.buf, m)
	}
	if err := f.write(ctx); err != nil {
		f.giveBack(n)
		return err
	}
	beyond := slices.Concat(wanted[n:], msgs[ends:])
	through := slices.DeleteFunc(slices.Clone(msgs), func(m *autopaho.Received) bool { return slices.Contains(beyond, m) })
	if err := f.clear(ctx, through...); err != nil {
		f.giveBack(n)
		return err
	}
	f.through(n)
	if ends < len(msgs) {
		f.end(nil)
	}
	if len(beyond) == 0 {
		return nil
	}
	// A batch is completed or given back as one. This one is handed over again,
	// message by message, and those that are beyond the end are given back then.
	f.kept = make(map[*autopaho.Received]bool, len(through))
	for _, m := range through {
		f.kept[m] = true
	}
	return errBeyondEnd
}

// write appends f.buf. It tries until it can, and acknowledges nothing meanwhile; its
// error is that the run ends before.
func (f *filer) write(ctx context.Context) error {
	if len(f.buf) == 0 {
		return nil
	}
	for told := false; ; told = true {
		f.mu.Lock()
		err := f.file.append(f.buf)
		f.mu.Unlock()
		switch {
		case err == nil && told:
			f.sh.log.info("%s is written again", strconv.Quote(f.o.out))
			return nil
		case err == nil:
			return nil
		case !told:
			f.sh.log.warn("--out: %s; nothing is acknowledged until the file can be written", oneLine(err))
		}
		again := time.NewTimer(outRetry)
		select {
		case <-again.C:
		case <-f.ended:
			again.Stop()
			return autopaho.ErrRelease
		case <-ctx.Done():
			again.Stop()
			return autopaho.ErrRelease
		}
	}
}
