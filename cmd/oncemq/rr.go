package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
)

// rrOptions are the options of rr.
type rrOptions struct {
	connection connectionOptions
	report     reportOptions
	message    messageOptions
	payload    payloadOptions
	print      printOptions
	count      int
	wait       time.Duration
	noRetained bool
}

const catResponse = "Response"

func (o *rrOptions) options() []*option {
	o.count = 1
	o.message.connection = &o.connection
	o.payload.kinds = "-m TEXT, -f FILE, -s, -n"
	options := only(o.message.options(), "topic", "qos", "retain", "user-property", "content-type", "correlation-data", "utf8", "property",
		"expiry", "message-id")
	for _, m := range options {
		switch m.name {
		case "expiry":
			m.also = []string{"message-expiry"} // -e is mosquitto_rr's
		case "message-id":
			m.usage, m.def = "`ID` of the message, at most 128 bytes", "none"
		}
	}
	options = append(options, only(o.payload.options(), "message", "file", "stdin-file", "null-message")...)
	options = append(options, withEnv([]*option{
		{
			name: "response-topic", also: []string{"e", "rt"}, category: catResponse, set: topic(&o.message.m.Properties.ResponseTopic),
			def: "one of this run's own, below oncemq/responses", usage: "`TOPIC` on which to wait for the response",
		},
		{name: "count", also: []string{"C"}, category: catResponse, set: number(&o.count, 1, math.MaxInt32), def: "1", usage: "end after a `NUMBER` of responses"},
		{name: "wait", also: []string{"W"}, category: catResponse, set: span(&o.wait), bound: &o.wait, def: "for ever", usage: "end after that `TIME`, with exit code 27; without it a broker that cannot be reached at first ends the command"},
		{name: "no-retained", also: []string{"R"}, category: catResponse, set: on(&o.noRetained), usage: "do not print retained messages"},
	}, "count", "wait", "response-topic")...)
	options = append(options, o.print.options()...)
	options = append(options, without(o.connection.options(false), "receipt-key-file")...)
	return append(options, o.report.options()...)
}

func rrCommand(sh *shell) *cli.Command {
	o := new(rrOptions)
	options := o.options()
	return &cli.Command{
		Name:      "rr",
		Usage:     "send a request and print the response",
		UsageText: "oncemq rr [-h HOST] -t TOPIC [-e TOPIC] (-m TEXT | -f FILE | -s | -n) [-C NUMBER] [-W TIME] [options]",
		Description: `
The request carries a response topic and correlation data, and only messages on that
topic with those data are responses. Nothing is stored: a request that gets none is not
sent again. With -W the broker is tried until the time is over; without it the command
fails if it cannot connect at first, and waits for ever after that. There are two
connections, under the client ID with -pub and with -rr behind it.

Examples:
  oncemq rr -t time/get -n -W 5
  oncemq rr -t rpc/add -e rpc/answers -m '[1,2]' --content-type application/json
  oncemq rr -t fleet/ping -n -C 3 -W 2 -F '%t %p'

Formats (-F) are those of oncemq sub.

Traces: if OTEL_EXPORTER_OTLP_ENDPOINT is set, such as to http://localhost:4318, spans
are sent there by OTLP over HTTP; other variables of OpenTelemetry count as well.

Exit codes: 0 the responses came, 1 failed, as without a broker, or the output was
closed, 2 usage, 4 refused by the broker, 27 the time of -W is over, 130 and 143
ended by a signal before the responses came.`,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return rr(ctx, sh, o) }),
	}
}

func rr(ctx context.Context, sh *shell, o *rrOptions) error {
	if err := o.payload.check(); err != nil {
		return err
	}
	starting, cancel := bounded(ctx, o.wait)
	defer cancel()
	cfg, urlTopic, err := o.connection.config(starting, sh)
	if err != nil {
		return err
	}
	m, err := o.message.template(urlTopic, &cfg.Policies, true)
	if err != nil {
		return err
	}
	print, err := o.print.printer()
	if err != nil {
		return err
	}
	source, err := o.payload.feed(starting, sh.stdin)
	if err != nil {
		return err
	}
	if err := source(ctx, func(b []byte) error { m.Payload = append([]byte(nil), b...); return nil }); err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	cfg.ClientID = o.connection.clientID
	if o.connection.idPrefix != "" {
		cfg.ClientID = randomID(o.connection.idPrefix)
	}
	cfg.SessionExpiry = o.connection.sessionExpiry.config()
	sh.trace(ctx, &cfg)
	asking, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	t := newTrouble(sh.log)
	cfg.OnEvent = t.event
	if o.wait == 0 {
		cfg.OnEvent = t.atFirst(len(cfg.Servers), giveUp)
	}
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return err
	}
	out := newOutput(sh.stdout)
	stopWrites := out.endWith(starting)
	err = sendRequest(asking, client, o, m, print, out)
	stopWrites()
	patience, stop := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer stop()
	_ = client.Close(patience) // nothing of it is to be kept
	if werr := out.close(starting); errors.Is(werr, errUnread) && ctx.Err() == nil {
		return errTimedOut
	} else if werr != nil {
		return outputError(werr)
	}
	var unreachable *unreachableError
	if err != nil && ctx.Err() == nil && errors.As(context.Cause(asking), &unreachable) {
		return &exitError{code: exitFailed, err: unreachable}
	}
	return verdictOfRequest(ctx, err, t)
}

// sendRequest sends the request and prints the responses.
func sendRequest(ctx context.Context, client *autopaho.Client, o *rrOptions, m autopaho.Message, print printer, out *output) error {
	if o.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.wait)
		defer cancel()
	}
	left := o.count
	return client.RequestEach(ctx, m, func(r *autopaho.Received) bool {
		if o.noRetained && r.Retain {
			return true
		}
		b, _ := print.append(nil, r)
		left--
		return out.write(b) == nil && left > 0
	})
}

// verdictOfRequest makes the error that decides the exit code.
func verdictOfRequest(ctx context.Context, err error, t *trouble) error {
	var refused *autopaho.DeliveryError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return interrupted(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		text := "timed out"
		if cause := t.connecting(); cause != nil {
			text += "; last: " + oneLine(cause)
		} else if errors.Is(err, autopaho.ErrNoSubscribers) {
			text += "; the broker had no subscriber for the request"
		}
		return &exitError{code: exitTimeout, text: text}
	case errors.As(err, &refused):
		return &exitError{code: exitRefused, err: fmt.Errorf("the request was refused: %w", err)}
	}
	return err
}
