package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// payloadOptions are the sources of payloads: exactly one is given.
type payloadOptions struct {
	message     string
	file        string
	lines       bool
	ndjson      bool
	stdin       bool
	null        bool
	repeat      int
	repeatDelay time.Duration
	kinds       string // of sources there are, for an error

	sources []*option
}

const catPayload = "Payload (exactly one)"

// maxPayload is the library's default for the largest payload, in bytes.
const maxPayload = 1 << 20

func (o *payloadOptions) options() []*option {
	o.repeat = 1
	if o.kinds == "" {
		o.kinds = "-m TEXT, -f FILE, -l, --ndjson, -s, -n"
	}
	o.sources = []*option{
		{name: "message", also: []string{"m"}, category: catPayload, set: text(&o.message), usage: "`TEXT` to publish"},
		{name: "file", also: []string{"f", "file-read"}, category: catPayload, set: name(&o.file), usage: "`FILE` whose content to publish as one message"},
		{
			name: "stdin-line", also: []string{"l"}, category: catPayload, set: on(&o.lines),
			usage: "publish each line of standard input as a message, however many there are",
		},
		{
			name: "ndjson", category: catPayload, set: on(&o.ndjson),
			usage: "publish each line of standard input, which is a JSON object with the keys of oncemq sub --json: topic, payload or " +
				"payload_base64, qos, retain, id, properties. What a line does not say is as the options say; qos 0 means --qos. " +
				"An id over 128 bytes, which others may have given, becomes its SHA-256",
		},
		{name: "stdin-file", also: []string{"s", "stdin"}, category: catPayload, set: on(&o.stdin), usage: "publish all of standard input as one message"},
		{name: "null-message", also: []string{"n"}, category: catPayload, set: on(&o.null), usage: "publish an empty message"},
	}
	return append(append([]*option(nil), o.sources...), withEnv([]*option{
		{name: "repeat", category: catDelivery, set: number(&o.repeat, 1, 1<<31-1), def: "1", usage: "publish the message a `NUMBER` of times"},
		{name: "repeat-delay", category: catDelivery, set: span(&o.repeatDelay), usage: "`TIME` between repetitions"},
	})...)
}

// check tells whether exactly one source is given.
func (o *payloadOptions) check() error {
	var given []string
	for _, s := range o.sources {
		if s.given {
			given = append(given, "--"+s.name)
		}
	}
	switch {
	case len(given) == 0:
		return &usageError{problem: "no payload is given; use one of " + o.kinds}
	case len(given) > 1:
		return &usageError{option: given[0], problem: "cannot stand beside " + strings.Join(given[1:], " and ") + "; a message has one payload"}
	case o.many() && o.repeat > 1:
		return &usageError{option: "--repeat", problem: "cannot stand beside " + given[0] + ", which is read once"}
	}
	return nil
}

// many tells whether standard input has as many messages as it has lines.
func (o *payloadOptions) many() bool { return o.lines || o.ndjson }

// maxObject is how long a line of --ndjson may be: a payload of the largest size with
// an escape of six bytes for each of its own, and properties.
const maxObject = 8 * maxPayload

// feed hands payloads to put until there are no more, ctx ends, or put returns
// an error. A payload is put's to copy.
type feed func(ctx context.Context, put func([]byte) error) error

// errTooLong tells of data over a limit.
func errTooLong(n, limit int) error {
	return fmt.Errorf("%d bytes are over the limit of %d", n, limit)
}

// feed opens the source.
func (o *payloadOptions) feed(ctx context.Context, stdin io.Reader) (feed, error) {
	var payload []byte
	switch {
	case o.many():
		limit := maxPayload
		if o.ndjson {
			limit = maxObject
		}
		return func(_ context.Context, put func([]byte) error) error { return readLines(stdin, limit, put) }, nil
	case o.file != "":
		var err error
		payload, err = readStart(ctx, o.file, maxPayload+1)
		if err = checkPayload(payload, err); err != nil {
			return nil, &exitError{code: exitCode(err), text: "--file", err: err}
		}
	case o.stdin:
		var err error
		payload, err = await(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(stdin, maxPayload+1)) }, nil)
		if ctx.Err() != nil && err != nil {
			err = interrupted(ctx)
		}
		if err = checkPayload(payload, err); err != nil {
			return nil, &exitError{code: exitCode(err), text: "standard input", err: err}
		}
	default:
		payload = []byte(o.message)
		if len(payload) > maxPayload {
			return nil, &exitError{code: exitFailed, text: "--message", err: errTooLong(len(payload), maxPayload)}
		}
	}
	return o.repeated(payload), nil
}

// repeated hands out one payload as often as was asked for.
func (o *payloadOptions) repeated(payload []byte) feed {
	return func(ctx context.Context, put func([]byte) error) error {
		for i := range o.repeat {
			if i > 0 && o.repeatDelay > 0 {
				t := time.NewTimer(o.repeatDelay)
				select {
				case <-t.C:
				case <-ctx.Done():
					t.Stop()
					return ctx.Err()
				}
			}
			if err := put(payload); err != nil {
				return err
			}
		}
		return nil
	}
}

// checkPayload is the error of a reading, or that what was read is too large.
func checkPayload(payload []byte, err error) error {
	if err == nil && len(payload) > maxPayload {
		return fmt.Errorf("more than %d bytes, which is the limit of a payload", maxPayload)
	}
	return err
}

// readLines hands out the lines of r without their newline; the last one need
// not have one. It holds one line at a time.
func readLines(r io.Reader, limit int, put func([]byte) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	var long []byte // the beginning of a line that is longer than the buffer
	for number := 1; ; number++ {
		long = long[:0]
		part, err := br.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) && len(long)+len(part) <= limit {
			long = append(long, part...)
			part, err = br.ReadSlice('\n')
		}
		line := part
		if len(long) > 0 {
			long = append(long, part...)
			line = long
		}
		ended := len(line) > 0 && line[len(line)-1] == '\n'
		if ended {
			line = line[:len(line)-1]
		}
		switch {
		case len(line) > limit:
			return fmt.Errorf("line %d of standard input is longer than %d bytes, which is the limit; "+
				"this line and what follows were not published", number, limit)
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read standard input: %w", err)
		case err != nil && len(line) == 0:
			return nil
		}
		if err := put(line); err != nil {
			return err
		}
		if !ended {
			return nil
		}
	}
}
