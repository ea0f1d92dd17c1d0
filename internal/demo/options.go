package demo

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/oncemq/oncemq/fault/drill"
)

// ErrOptions tells that a field of [Options] is not right.
var ErrOptions = errors.New("demo options")

// The bounds and defaults of Options.
const (
	DefaultMessages       = 5000
	DefaultKills          = 3
	DefaultReceiptTimeout = 2 * time.Second
	DefaultLimit          = 24 * time.Second

	MaxMessages = 100_000
	MaxKills    = 10
	// MinBurst is how many messages there must be for each life of the broker.
	MinBurst = 20
)

// Options say what to do. Folder and Replica are required.
type Options struct {
	// Messages is how many are published: at least MinBurst for each life of
	// the broker, at most MaxMessages. Zero means DefaultMessages.
	Messages int
	// Kills is how often the broker is killed, 1 to MaxKills. Zero means
	// DefaultKills.
	Kills int
	// Seed decides how the messages are spread over the lives of the broker and
	// how far the replicas are when it is killed. The same seed gives the same
	// script, not the same run: processes are not that obedient.
	Seed uint64
	// Sabotage is what is taken away.
	Sabotage drill.Sabotage
	// Folder is where the files are made; it must exist and be empty. It is
	// left as it is in the end.
	Folder string
	// Replica returns the command that runs a replica: a program that calls
	// [RunReplica] with its standard input and output, which are pipes to this
	// process. env is to be in its environment. The command is started, and
	// killed, by the demo.
	Replica func(ctx context.Context, env []string) *exec.Cmd
	// ReceiptTimeout is how long the publisher waits for a receipt before it
	// sends a message again. Zero means DefaultReceiptTimeout.
	ReceiptTimeout time.Duration
	// Limit is when the demo stops waiting and counts; what has no effect by
	// then is lost. Zero means DefaultLimit.
	Limit time.Duration
	// Observe is told what happens, by one goroutine at a time. It must not
	// block. Nil for nobody.
	Observe func(Event)
}

// Validate lists everything that is wrong, joined; each fault wraps ErrOptions.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...)))
	}
	if o.Kills < 1 || o.Kills > MaxKills {
		bad("kills: %d is out of range; use 1 to %d", o.Kills, MaxKills)
	} else if least := MinBurst * (o.Kills + 1); o.Messages < least || o.Messages > MaxMessages {
		bad("messages: %d is out of range; use %d to %d with %d kills", o.Messages, least, MaxMessages, o.Kills)
	}
	if o.Replica == nil {
		bad("replica: is missing")
	}
	if o.Folder == "" {
		bad("folder: is missing")
	} else if strings.ContainsRune(o.Folder, 0) {
		bad("folder: has a NUL")
	}
	if o.ReceiptTimeout < time.Millisecond {
		bad("receipt timeout: %s is too short; use 1ms or more", o.ReceiptTimeout)
	}
	if o.Limit < time.Second {
		bad("limit: %s is too short; use 1s or more", o.Limit)
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Messages == 0 {
		o.Messages = DefaultMessages
	}
	if o.Kills == 0 {
		o.Kills = DefaultKills
	}
	if o.ReceiptTimeout == 0 {
		o.ReceiptTimeout = DefaultReceiptTimeout
	}
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	return o
}
