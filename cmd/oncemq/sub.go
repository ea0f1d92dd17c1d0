package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/qos"
)

func subCommand(sh *shell) *cli.Command {
	o := new(subOptions)
	options := o.options()
	return &cli.Command{
		Name:      "sub",
		Usage:     "print messages, or run a command for each; what is done is acknowledged",
		UsageText: "oncemq sub [-h HOST] -t FILTER [-t FILTER ...] [options]",
		Description: `
The broker gets its acknowledgement after the message was written to standard
output. With --group, replicas share the messages of a subscription, and with the
same --store they remember together what was printed, so that what a publisher
or a broker sends twice is printed once. Give each replica a client ID of its own
(-i): the broker keeps what it has dealt to a run, and nobody comes back to one
without a name.

Examples:
  oncemq sub -t 'sensors/#' -v
  oncemq sub -h broker.example -t logs -C 10 -W 30
  oncemq sub -t orders --json | jq .payload
  oncemq sub -t orders -i worker-1 --group workers --receipts
  oncemq sub -t 'a/#' -F '@H:@M:@S %t %l bytes'
  oncemq sub -t 'a/#' -i archive -c --json --out /var/log/a.ndjson
  oncemq sub -t 'orders/#' -i worker-1 --group workers --exec './order.sh "$MQTT_TOPIC"'

Formats (-F): %t topic, %p payload, %l its length, %x and %X in hexadecimal, %q
QoS, %r retained, %d sent again, %m packet identifier, %i message ID, %C content
type, %R response topic, %D correlation data, %E expiry, %F payload format, %P
user properties, %j JSON, %J JSON with a payload that is JSON itself, %I and %U
the time, @Y and other letters of strftime, \n, \t, \0. A width may stand before
the letter: %-20t, %08l, %10.10t.

Files (--out): messages are appended batch by batch, and acknowledged once they are
on the disk. After a crash a message may be in the file twice, and a line that it
has torn is moved to FILE.torn. Of a message of several lines, which --json has none
of, the first may be left alone. While the file cannot be written nothing is
acknowledged. SIGHUP has the file opened anew, for logrotate (with delaycompress: a
batch may still be on its way into the old one). One process writes to a file.

Commands (--exec): run by /bin/sh -c, one for each message, in a process group of
its own. Exit code 0 completes the message; with any other it is tried again after a
pause, and is a dead letter in the store after --attempts, with the end of what the
command wrote to standard error as its reason. 126 and 127, by which a shell says
that it cannot run a command, end oncemq sub. What a command prints is passed on by
whole lines. If oncemq is killed (kill -9), the shell is told to end, on Linux, but
not what it has started: begin a COMMAND of one program with exec. Nothing of a
message is part of the command line: the payload is on standard input, the rest in
the environment: MQTT_TOPIC, MQTT_QOS, MQTT_RETAIN and MQTT_DUP (0 or 1),
MQTT_MESSAGE_ID, MQTT_ORDERING_KEY, MQTT_GROUP, MQTT_ATTEMPT (1 for the first),
MQTT_EPOCH (of the claim, a fencing token), MQTT_PAYLOAD_LENGTH, MQTT_PAYLOAD_UTF8,
MQTT_CONTENT_TYPE, MQTT_RESPONSE_TOPIC, MQTT_CORRELATION_DATA (if it is text) and
MQTT_CORRELATION_DATA_BASE64, MQTT_EXPIRY (seconds), MQTT_USER_PROPERTIES (JSON),
and MQTT_USER_PROPERTY_NAME for each user property. The rest of the environment is
that of oncemq, without the secrets of its options: ONCEMQ_PASSWORD, the variable of
--password-env, ONCEMQ_WS_HEADER, and ONCEMQ_BROKER, ONCEMQ_STORE and ONCEMQ_PROXY
if there is a password in the URL. A command may run again for a message that it has
run for: after a crash, and without --group whenever the broker sends it again.

Traces: if OTEL_EXPORTER_OTLP_ENDPOINT is set, such as to http://localhost:4318, spans
are sent there by OTLP over HTTP; other variables of OpenTelemetry count as well.

Exit codes: 0 ended by -C, -E, SIGINT or SIGTERM, 1 failed or the output was
closed, 2 usage, 4 refused by the broker, 5 the store cannot be used, 27 the time
of -W is over, 130 and 143 ended by a signal before the messages of -C came.`,
		Flags:  toFlags(options),
		Action: action(sh, func(ctx context.Context, _ []string) error { return sub(ctx, sh, o) }),
	}
}

func sub(ctx context.Context, sh *shell, o *subOptions) error {
	starting, cancel := bounded(ctx, o.wait)
	defer cancel()
	cfg, urlTopic, err := o.connection.config(starting, sh)
	if err != nil {
		return err
	}
	if err := o.check(urlTopic); err != nil {
		return err
	}
	print, err := o.print.printer()
	if err != nil {
		return err
	}
	subscription, err := o.subscription()
	if err != nil {
		return err
	}
	m, err := o.monitor.start(ctx, sh, true)
	if err != nil {
		return err
	}
	defer m.close()
	m.measure(&cfg)
	sh.trace(ctx, &cfg)
	o.session(&cfg)
	if o.group != "" || o.exec.command != "" { // of which dead letters may come
		store, err := o.store.open(ctx, sh)
		if err != nil {
			return err
		}
		defer closeStore(sh, store)
		cfg.Store, cfg.Relay.Off = store, true
	}
	out := newOutput(sh.stdout)
	s := &subscriber{sh: sh, o: o, print: print, out: out, monitor: m, ended: make(chan struct{})}
	var file *filer
	switch {
	case o.exec.command != "":
		subscription.Handler = (&executor{subscriber: s, opts: &o.exec, base: commandEnv(sh.env, o.connection.password.variable)}).handle
	case o.out != "":
		if file, err = openFiler(ctx, s); err != nil {
			_ = out.close(ctx) // nothing was written
			return err
		}
		subscription.BatchHandler = file.handle
	default:
		subscription.Handler = s.handle
	}
	err = s.run(ctx, cfg, subscription)
	if file != nil {
		s.end(err) // if it has not begun
		err = errors.Join(err, file.close())
	}
	if werr := out.close(starting); err == nil && werr != nil {
		err = outputError(werr)
	}
	return err
}

// subscriber is one run of sub.
type subscriber struct {
	sh      *shell
	o       *subOptions
	print   printer
	out     *output
	monitor *monitor
	ended   chan struct{} // closed when the run is to end

	client *autopaho.Client

	mu    sync.Mutex // guards the following
	begun int        // messages that count
	done  int        // those of them that are through
	over  bool
	err   error // why, if not in good order
}

// reserve begins up to n messages, and returns how many of them are within -C. None
// are when the run is to end.
func (s *subscriber) reserve(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0
	}
	if s.o.count > 0 {
		n = min(n, s.o.count-s.begun)
	}
	s.begun += n
	return n
}

// giveBack is for messages that were begun, and are not through.
func (s *subscriber) giveBack(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun -= n
}

// through is for messages that were begun, and are done; the last of -C ends the run.
func (s *subscriber) through(n int) {
	s.mu.Lock()
	s.done += n
	last := s.done == s.o.count
	s.mu.Unlock()
	if last {
		s.end(nil)
	}
}

// handle prints a message. Its nil is what the broker's acknowledgement waits
// for, so that it comes after the write.
func (s *subscriber) handle(ctx context.Context, m *autopaho.Received) error {
	skip, end := s.o.skips(m)
	if end {
		s.end(nil)
	}
	if skip {
		return s.clear(ctx, m)
	}
	if s.reserve(1) == 0 {
		return autopaho.ErrRelease // not ours any more: the next one gets it
	}
	if err := s.out.write(s.printed(nil, m)); err != nil {
		s.end(outputError(err))
		return autopaho.ErrRelease
	}
	if err := s.clear(ctx, m); err != nil {
		return err
	}
	s.through(1)
	return nil
}

// clear has the broker forget retained messages that are done with, if that was asked
// for.
func (s *subscriber) clear(ctx context.Context, msgs ...*autopaho.Received) error {
	if !s.o.removeRetained {
		return nil
	}
	for _, m := range msgs {
		if !m.Retain || s.o.filteredOut(m.Topic) {
			continue
		}
		if _, err := s.client.Publish(ctx, autopaho.Message{Topic: m.Topic, QoS: 1, Retain: true}); err != nil {
			s.end(fmt.Errorf("remove the retained message on topic %s: %w", shown(m.Topic), err))
			return autopaho.ErrRelease
		}
	}
	return nil
}

// printed appends the printed form of a message.
func (s *subscriber) printed(b []byte, m *autopaho.Received) []byte {
	b, ok := s.print.append(b, m)
	if !ok {
		s.sh.log.warn("the payload on topic %s is not JSON; it is printed as a string", shown(m.Topic))
	}
	return b
}

// skips tells whether a message is acknowledged without being printed, and
// whether it ends the run.
func (o *subOptions) skips(m *autopaho.Received) (skip, end bool) {
	switch {
	case o.retainedOnly && !m.Retain:
		return false, true
	case o.noRetained && m.Retain:
		return true, false
	}
	if o.filteredOut(m.Topic) {
		return true, false
	}
	// What was begun is not left to chance a second time.
	return o.chance < 100 && m.Attempt <= 1 && rand.Float64()*100 >= o.chance, false //nolint:gosec // chance needs no secrecy
}

func (o *subOptions) filteredOut(topic string) bool {
	for _, f := range o.filterOut {
		if qos.Match(f, topic) {
			return true
		}
	}
	return false
}

// end ends the run, the first time with its reason.
func (s *subscriber) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.over, s.err = true, err
		close(s.ended)
	}
}

// outputError is the error of a write to stdout. That the reader has gone is
// nothing to talk about: "oncemq sub | head -1" is common.
func outputError(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return &exitError{code: exitFailed}
	}
	return &exitError{code: exitFailed, text: "write to standard output", err: err}
}

func (s *subscriber) run(ctx context.Context, cfg autopaho.Config, subscription autopaho.SubscribeConfig) error {
	t := newTrouble(s.sh.log)
	t.subscribes = true
	cfg.OnEvent = t.event
	client, err := autopaho.New(ctx, cfg)
	if err != nil {
		return err
	}
	s.monitor.watch(client)
	stop := s.o.stats.start(ctx, s.sh, client, true)
	s.client = client
	err = s.until(ctx, client, subscription, t)
	stop()
	s.end(err) // what was received and not begun stays with the broker
	s.sh.log.debugf("ending")
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience+s.o.exec.patience())
	defer cancel()
	if closed := client.Close(patience); closed != nil && err == nil {
		return &exitError{code: exitFailed, text: "not everything that was done could be acknowledged", err: closed}
	}
	return err
}

// until subscribes and returns when the run is to end.
func (s *subscriber) until(ctx context.Context, client *autopaho.Client, subscription autopaho.SubscribeConfig, t *trouble) error {
	waiting := ctx
	if s.o.wait > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, s.o.wait)
		defer cancel()
	}
	agreed := make(chan error, 1)
	go func() { // joined by client.Close, which ends both calls
		err := client.Unsubscribe(waiting, s.o.unsubscribe...)
		if err == nil && len(subscription.Filters) > 0 {
			// Handlers may be at work before the broker has agreed. Were it ended by the
			// context they would have no time to see acknowledged what they have done;
			// client.Close gives it to them.
			_, err = client.Subscribe(context.WithoutCancel(ctx), subscription)
		}
		agreed <- err
	}()
	for {
		select {
		case err := <-agreed:
			switch {
			case waiting.Err() != nil:
				return s.timeOut(ctx, t)
			case err != nil:
				return err
			case s.o.exitAfter || len(subscription.Filters) == 0:
				return nil
			}
			s.sh.log.debugf("subscribed to %s", strings.Join(subscription.Filters, ", "))
		case <-s.ended:
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.err
		case <-waiting.Done():
			return s.timeOut(ctx, t)
		case <-t.wake:
			if err := client.Err(); err != nil {
				return err
			}
		}
	}
}

// timeOut is the end by a signal or by -W.
func (s *subscriber) timeOut(ctx context.Context, t *trouble) error {
	s.mu.Lock()
	complete := s.over && s.err == nil
	s.mu.Unlock()
	switch {
	case complete:
		return nil
	case ctx.Err() == nil:
		if cause := t.connecting(); cause != nil {
			return &exitError{code: exitTimeout, text: "timed out; last: " + oneLine(cause)}
		}
		return &exitError{code: exitTimeout, text: "timed out"}
	case s.o.count > 0 || s.o.exitAfter:
		return interrupted(ctx)
	}
	return nil // the way in which a subscriber ends
}
