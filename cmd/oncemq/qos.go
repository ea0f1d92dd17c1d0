package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/qos/comparison"
)

// qosOptions are the options of qos.
type qosOptions struct {
	connection connectionOptions
	report     reportOptions

	messages, rate, cutEvery int
	delay, quiet, timeout    time.Duration
	link, topic, advise      string
	sessions, json           bool
	given                    struct{ messages, delay *option }
}

const (
	catComparison = "Comparison"
	// sessionMessages is how many messages --persistent-session sends at each level
	// and in each phase, unless told otherwise.
	sessionMessages = 20
)

func (o *qosOptions) options() []*option {
	o.link = "both"
	messages := &option{
		name: "messages", category: catComparison, set: number(&o.messages, 1, comparison.MaxMessages),
		def:   fmt.Sprintf("%d, with --persistent-session %d for each phase", comparison.DefaultMessages, sessionMessages),
		usage: "`NUMBER` of messages at each level over each link",
	}
	delay := &option{
		name: "delay", category: catComparison, set: span(&o.delay), def: comparison.DefaultDelay.String(),
		usage: "`TIME` by which everything is late over the faulty link, in each direction",
	}
	o.given.messages, o.given.delay = messages, delay
	options := withEnv([]*option{
		messages,
		{
			name: "rate", category: catComparison, set: number(&o.rate, 1, comparison.MaxRate),
			def: fmt.Sprint(comparison.DefaultRate), usage: "messages a second, a `NUMBER`",
		},
		{
			name: "link", category: catComparison, set: oneOf(&o.link, comparison.Plain, comparison.Faulty, "both"),
			choices: []string{comparison.Plain, comparison.Faulty, "both"}, def: "both",
			usage: "`LINK` to send over: plain, faulty or both",
		},
		{
			name: "cut-every", category: catComparison, set: number(&o.cutEvery, comparison.MinCutEvery, comparison.MaxCutEvery),
			def: fmt.Sprint(comparison.DefaultCutEvery),
			usage: "cut the faulty link at each `NUMBER`th PUBLISH and at each so-many-th acknowledgement, which are lost " +
				"with all that was on its way",
		},
		delay,
		{
			name: "quiet-time", category: catComparison, set: positiveSpan(&o.quiet), def: comparison.DefaultQuiet.String(),
			usage: "`TIME` without a message after which what is missing is lost",
		},
		{
			name: "timeout", category: catComparison, set: positiveSpan(&o.timeout), def: comparison.DefaultTimeout.String(),
			usage: "`TIME` for one level over one link; what has no answer by then is pending",
		},
		{
			name: "topic", also: []string{"t"}, category: catComparison, set: name(&o.topic), def: comparison.DefaultTopic,
			usage: "`TOPIC` below which all messages are published",
		},
		{
			name: "persistent-session", category: catComparison, set: on(&o.sessions),
			usage: "show instead what a persistent session keeps for a subscriber that is away, and what is lost without one",
		},
		{
			name: "advise", category: catComparison, set: name(&o.advise),
			usage: "print instead a policy file for the topics that a YAML `FILE` lists with their needs; see above",
		},
		{name: "json", category: catOutput, set: on(&o.json), usage: "print JSON, an object a line for each level, or topic"},
	}, "advise", "persistent-session")
	options = append(options, o.connection.several("session-expiry", "receive-maximum", "max-packet-size", "id-prefix", "nodelay")...)
	o.connection.orOwn(topicUsage)
	return append(options, o.report.options()...)
}

func qosCommand(sh *shell) *cli.Command {
	o := new(qosOptions)
	options := o.options()
	return &cli.Command{
		Name:      "qos",
		Usage:     "send at QoS 0, 1 and 2 and compare what arrives",
		UsageText: "oncemq qos [-h HOST] [options]",
		Description: `
Sends telemetry, alerts and commands (seven, two and one of ten) through an outbox in
memory at each level: over a plain link, and over one that is cut again and again. A
subscriber that is connected to the broker itself counts what arrives. Without -h, -p,
--url or --unix a broker of its own is started.

What the rows say, of each level; sent = confirmed + pending + lost:
  sent           messages that the client accepted
  confirmed      the subscriber has the message and, at QoS 1 and 2, the broker has
                 acknowledged it; at QoS 0, which has no acknowledgement: seen by the
                 subscriber
  pending        still in the outbox when the time was over
  lost           the client is through with it and the subscriber never saw it
  duplicates     copies that the subscriber got beyond the first of each message
  connections    that the publisher has made
  PUBLISH        packets on the wire between publisher and broker, copies included;
                 those of QoS 0 that a cut swallows in the network are not seen there
  handshake      PUBACK, PUBREC, PUBREL and PUBCOMP packets on the wire
  retransmitted  PUBLISH and PUBREL packets that were sent again
  latency        of confirmed messages, from the hand-over to the arrival at the
                 subscriber, and to the broker's PUBACK or PUBCOMP: at 50, 95 and 99
                 per cent of them

--persistent-session has one subscriber with a persistent session and one without
go away and come back, and counts what each got of what was sent while it was
connected, while it was away and after its return.

--advise reads what topics need, and prints a file for pub --policy:
  topics:
    - filter: sensors/+/temperature
      loss_tolerable: true        # default false: none may get lost
      duplicates_tolerable: true  # default false: none may come twice
      rate: 200                   # messages a second; default: not known, few
    - filter: alerts/#

Examples:
  oncemq qos
  oncemq qos -h broker.example --link plain --json
  oncemq qos --persistent-session
  oncemq qos --advise needs.yaml > policies.yaml

Exit codes: 0 done, 1 failed, or a message of QoS 1 or 2 was not confirmed, or one of
QoS 2 came twice, 2 usage, 4 refused by the broker.`,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return o.run(ctx, sh) }),
	}
}

func (o *qosOptions) run(ctx context.Context, sh *shell) error {
	switch {
	case o.advise != "" && o.sessions:
		return &usageError{option: "--advise", problem: "cannot stand beside --persistent-session; each is a command of its own"}
	case o.advise != "":
		return o.printAdvice(ctx, sh)
	}
	opts, err := o.comparison(ctx, sh)
	if err != nil {
		return err
	}
	progress := startQoSProgress(sh)
	opts.Observe = progress.observe
	if o.sessions {
		err = o.compareSessions(ctx, sh, opts)
	} else {
		err = o.compareLevels(ctx, sh, opts, progress)
	}
	progress.clear()
	sh.log.setBefore(nil)
	switch {
	case errors.Is(err, comparison.ErrOptions):
		return &usageError{problem: oneLine(err)}
	case err != nil && ctx.Err() != nil:
		return interrupted(ctx)
	}
	return err
}

// comparison makes the options of the library.
func (o *qosOptions) comparison(ctx context.Context, sh *shell) (comparison.Options, error) {
	opts := comparison.Options{
		NewStore: func() persist.Store { return memory.New(memory.Options{}) },
		Topic:    o.topic, Messages: o.messages, Rate: o.rate, CutEvery: o.cutEvery,
		Delay: o.delay, Quiet: o.quiet, Timeout: o.timeout,
	}
	if o.link != "both" {
		opts.Links = []string{o.link}
	}
	if o.given.delay.given && o.delay == 0 {
		opts.Delay = -1
	}
	if o.sessions && !o.given.messages.given {
		opts.Messages = sessionMessages
	}
	cfg, topic, err := o.connection.config(ctx, sh)
	if err != nil {
		return opts, err
	}
	if opts.Topic == "" {
		opts.Topic = topic
	}
	if !o.connection.named() {
		// A broker of our own is reached without what leads to others.
		cfg.Servers, cfg.Username, cfg.Password, cfg.Credentials = nil, "", nil, nil
		cfg.TLS, cfg.TLSFiles, cfg.Header, cfg.Dial = nil, autopaho.TLSFiles{}, nil, nil
	}
	opts.Client = cfg
	return opts, nil
}

// compareLevels prints the results of each link, or each result in JSON.
func (o *qosOptions) compareLevels(ctx context.Context, sh *shell, opts comparison.Options, p *qosProgress) error {
	const levels = 3
	var link []*comparison.Result
	kept, tables := true, 0
	_, _, coloured := terminal(sh.stdout)
	err := comparison.Run(ctx, opts, func(r *comparison.Result) error {
		kept = kept && r.Kept()
		if o.json {
			return written(writeLine(sh.stdout, r))
		}
		link = append(link, r)
		if len(link) < levels {
			return nil
		}
		p.clear()
		if tables++; tables > 1 {
			if _, err := fmt.Fprintln(sh.stdout); err != nil {
				return written(err)
			}
		}
		err := comparison.WriteTable(sh.stdout, link, coloured)
		link = nil
		return written(err)
	})
	if err != nil {
		return err
	}
	if !kept {
		return &exitError{code: exitFailed, text: "a message of QoS 1 or 2 was not confirmed, or one of QoS 2 came twice"}
	}
	return nil
}

// compareSessions is compareLevels for sessions.
func (o *qosOptions) compareSessions(ctx context.Context, sh *shell, opts comparison.Options) error {
	const levels = 3
	var session []*comparison.SessionResult
	tables := 0
	_, _, coloured := terminal(sh.stdout)
	return comparison.Sessions(ctx, opts, func(r *comparison.SessionResult) error {
		if o.json {
			return written(writeLine(sh.stdout, r))
		}
		session = append(session, r)
		if len(session) < levels {
			return nil
		}
		if tables++; tables > 1 {
			if _, err := fmt.Fprintln(sh.stdout); err != nil {
				return written(err)
			}
		}
		err := comparison.WriteSessions(sh.stdout, session, coloured)
		session = nil
		return written(err)
	})
}
