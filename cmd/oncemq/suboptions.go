package main

import (
	"crypto/rand"
	"math"
	"strings"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/qos"
)

// subOptions are the options of sub.
type subOptions struct {
	connection connectionOptions
	store      storeOptions
	monitor    monitorOptions
	report     reportOptions
	print      printOptions
	out        string // a file
	exec       execOptions
	stats      statsOptions

	topics    []string
	filterOut []string
	qos       byte
	count     int
	wait      time.Duration
	exitAfter bool // the SUBACK

	unsubscribe []string
	chance      float64 // of a message to be printed, in percent

	noRetained, retainedOnly   bool
	removeRetained             bool
	noLocal, retainAsPublished bool
	retainHandling             int

	group    string
	unshared bool
	dedupKey string
	window   time.Duration
	lease    time.Duration
	workers  int
	receipts bool

	forGroup []*option // those that mean nothing without a group
}

const (
	catSubscription = "Subscription"
	catOutput       = "Output"
	catGroup        = "Shared work and dedup"
)

func (o *subOptions) options() []*option {
	o.qos, o.workers, o.retainHandling, o.chance = 1, 1, 1, 100
	o.forGroup = []*option{
		{name: "unshared", category: catGroup, set: on(&o.unshared), usage: "have every replica hear every message, so that it reaches the group even if the broker forgets one replica; one of them prints it"},
		{
			name: "dedup-key", category: catGroup, set: name(&o.dedupKey), def: "id",
			usage: "`KEY` that makes two deliveries the same message: id, property:NAME, cloudevents, json:FIELD, correlation, content or none",
		},
		{
			name: "window", category: catGroup, set: positiveSpan(&o.window), def: "25h, or more if --session-expiry is longer",
			usage: "`TIME` since its first transmission for which a printed message is remembered; an older message is not printed, and becomes a dead letter",
		},
		{name: "lease", category: catGroup, set: positiveSpan(&o.lease), def: "30s", usage: "`TIME` after which the work of a replica that died passes to another"},
	}
	options := withEnv([]*option{
		{name: "topic", also: []string{"t"}, category: catSubscription, many: true, set: filter(&o.topics), usage: "topic `FILTER` to subscribe to; may be given several times"},
		{
			name: "qos", also: []string{"q"}, category: catSubscription, set: level(&o.qos), def: "1",
			usage: "highest `LEVEL` at which the broker may send, 0, 1 or 2", choices: levels(),
		},
		{name: "filter-out", also: []string{"T"}, category: catSubscription, many: true, set: filter(&o.filterOut), usage: "topic `FILTER` of messages not to print; may be given several times"},
		{name: "no-retained", also: []string{"R"}, category: catSubscription, set: on(&o.noRetained), usage: "do not print retained messages"},
		{name: "retained-only", category: catSubscription, set: on(&o.retainedOnly), usage: "print retained messages only, and end at the first other one"},
		{name: "no-local", also: []string{"nl"}, category: catSubscription, set: on(&o.noLocal), usage: "do not receive what was published under the same client ID"},
		{name: "retain-as-published", also: []string{"rap"}, category: catSubscription, set: on(&o.retainAsPublished), usage: "show the retain flag as it was published"},
		{
			name: "retain-handling", also: []string{"rh"}, category: catSubscription, set: number(&o.retainHandling, 0, 2), def: "1",
			choices: []string{"0", "1", "2"},
			usage:   "`WHEN` the broker sends retained messages: 0 at every subscription, 1 at a new one, 2 never",
		},
		{
			name: "remove-retained", category: catSubscription, set: on(&o.removeRetained),
			usage: "have the broker forget each retained message that came, once it is done with; not those of --filter-out",
		},
		{
			name: "unsubscribe", also: []string{"U"}, category: catSubscription, many: true, set: filter(&o.unsubscribe),
			usage: "topic `FILTER` of a subscription to remove first, which a session that was kept has (-i and -c); without -t that " +
				"is all there is to do; may be given several times",
		},
		{
			name: "property", also: []string{"D"}, category: catSubscription, words: propertyWords, many: true,
			set: property(nil, func() []*option { return o.connection.all }),
			usage: "MQTT property as mosquitto_sub takes it: -D connect or -D will and `PROPERTY VALUE`, for those that have options " +
				"of their own, such as receive-maximum",
		},
		{name: "receipts", category: catSubscription, set: on(&o.receipts), usage: "answer messages that ask for a receipt, once they are printed"},
		{
			name: "random-filter", category: catOutput, set: percent(&o.chance), def: "100",
			usage: "`PERCENTAGE` of messages to print, 0.1 to 100; the others are acknowledged all the same",
		},
		{name: "count", also: []string{"C"}, category: catOutput, set: number(&o.count, 1, math.MaxInt32), usage: "end after a `NUMBER` of messages"},
		{name: "wait", also: []string{"W"}, category: catOutput, set: span(&o.wait), bound: &o.wait, usage: "end after that `TIME`, with exit code 27"},
		{name: "exit-after-suback", also: []string{"E"}, category: catOutput, set: on(&o.exitAfter), usage: "end when the broker has agreed to the subscriptions"},
	}, "count", "wait", "exit-after-suback", "unsubscribe", "property", "remove-retained")
	out := &option{
		name: "out", also: []string{"output-to-file"}, category: catOutput, set: name(&o.out),
		usage: "append to a `FILE` in place of printing, and acknowledge what is on the disk; see above",
	}
	printing, executing := o.print.options(), o.exec.options()
	// What is said nearer by of where messages go is all that is said of it.
	exec, pretty := only(executing, "exec"), only(printing, "pretty")
	exec[0].excludes = append([]*option{out}, printing...)
	out.excludes = append(pretty, exec...)
	for _, p := range printing {
		p.excludes = append(p.excludes, exec...)
	}
	pretty[0].excludes = append(pretty[0].excludes, out)
	options = append(options, printing...)
	options = append(options, withEnv([]*option{out})...)
	options = append(options, executing...)
	options = append(options, withEnv(append([]*option{
		{
			name: "group", category: catGroup, set: name(&o.group),
			usage: "`NAME` of the replicas that share the work; those with one store never print a message twice",
		},
	}, append(o.forGroup, &option{
		name: "workers", category: catGroup, set: number(&o.workers, 1, 10_000), def: "1",
		usage: "`NUMBER` of messages to work on at once; with more than one, only messages of one ordering key keep their order",
	})...))...)
	options = append(options, o.store.options()...)
	options = append(options, o.connection.options(false)...)
	options = append(options, o.monitor.options()...)
	return append(append(options, o.report.options()...), o.stats.options()...)
}

// filter appends a topic filter.
func filter(dst *[]string) func(string) error {
	return func(s string) error {
		if err := qos.ValidateFilter(s); err != nil {
			return bare(err)
		}
		*dst = append(*dst, s)
		return nil
	}
}

// check finds contradictions and completes the options.
func (o *subOptions) check(urlTopic string) error {
	if len(o.topics) == 0 {
		if urlTopic == "" && len(o.unsubscribe) > 0 {
			return nil // that is all there is to do
		}
		if urlTopic == "" {
			return &usageError{option: "--topic", problem: "is missing; name the topics to subscribe to, such as -t 'sensors/#'"}
		}
		if err := filter(&o.topics)(urlTopic); err != nil {
			return &usageError{option: "--url", problem: err.Error()}
		}
	}
	if o.group == "" {
		for _, f := range o.forGroup {
			if f.near {
				return &usageError{option: "--" + f.name, problem: "needs --group beside it"}
			}
		}
		o.unshared, o.dedupKey, o.window, o.lease = false, "", 0, 0 // for another call
	} else if _, err := qos.JoinShared(o.group, "a"); err != nil {
		return &usageError{option: "--group", problem: bare(err).Error()}
	}
	for _, t := range o.topics {
		if _, _, shared := qos.SplitShared(t); shared && o.group != "" {
			return &usageError{option: "--topic", problem: shown(t) + " is shared already; leave $share out, or --group"}
		}
	}
	switch {
	case o.noLocal && o.group != "" && !o.unshared:
		return &usageError{option: "--no-local", problem: "is not possible for a shared subscription"}
	case o.noRetained && o.retainedOnly:
		return &usageError{option: "--no-retained", problem: "cannot stand beside --retained-only; nothing would be printed"}
	case o.window != 0 && o.window < dedup.MinWindow:
		return &usageError{option: "--window", problem: o.window.String() + " is too short; use " + dedup.MinWindow.String() + " or more"}
	case o.window > dedup.MaxWindow:
		return &usageError{option: "--window", problem: o.window.String() + " is too long; use " + dedup.MaxWindow.String() + " or less"}
	case o.lease != 0 && o.lease < dedup.MinLease:
		return &usageError{option: "--lease", problem: o.lease.String() + " is too short; use " + dedup.MinLease.String() + " or more"}
	case o.connection.receiptKeys.file != "" && !o.receipts:
		return &usageError{option: "--receipt-key-file", problem: "signs receipts, and none are sent; give --receipts beside it"}
	case o.connection.keepSession && o.connection.clientID == "":
		return &usageError{option: "--keep-session", problem: "needs a client ID that stays the same; give -i"}
	}
	switch {
	case o.out != "" && o.exec.command != "":
		return &usageError{option: "--out", problem: "cannot stand beside --exec; let the command write the file"}
	case o.out != "" && o.print.pretty:
		return &usageError{option: "--pretty", problem: "cannot stand beside --out, where a message is a line, which a crash cannot tear unnoticed"}
	case o.out != "" && o.workers > 1:
		return &usageError{option: "--workers", problem: "cannot stand beside --out, which appends messages in the order in which they come"}
	}
	if err := o.exec.check(&o.print); err != nil {
		return err
	}
	return o.checkWindow()
}

// checkWindow finds a window that is shorter than the broker may keep a message.
func (o *subOptions) checkWindow() error {
	x := &o.connection.sessionExpiry
	if !o.windowCounts() || !x.given || x.value == 0 {
		return nil
	}
	least := new(autopaho.SubscribeConfig).LeastWindow(x.value)
	if o.window >= least {
		return nil
	}
	problem := o.window.String() + " is shorter than --session-expiry and the retries of a message"
	if x.value < neverExpires {
		problem += "; use " + (least + time.Second - 1).Truncate(time.Second).String() + " or more, or a shorter --session-expiry"
	}
	return &usageError{option: "--window", problem: problem}
}

// windowCounts tells that a window was given that the session must not exceed.
func (o *subOptions) windowCounts() bool { return o.group != "" && o.qos > 0 && o.window != 0 }

// session completes the configuration of the MQTT session. One whose client ID
// is made for this run alone is kept by the broker only for as long as a
// reconnection may take; one that will be used again is kept longer, but not for
// longer than the window of what was printed.
func (o *subOptions) session(cfg *autopaho.Config) {
	c := &o.connection
	kept := c.keepSession || o.group != "" && c.clientID != ""
	cfg.CleanStart = c.cleanStart || !kept
	switch {
	case c.sessionExpiry.given:
		cfg.SessionExpiry = c.sessionExpiry.config()
	case c.keepSession && o.group == "":
		cfg.SessionExpiry = neverExpires
	case kept:
		cfg.SessionExpiry = 24 * time.Hour
	default:
		cfg.SessionExpiry = time.Minute
	}
	if o.windowCounts() && !c.sessionExpiry.given {
		// What the broker keeps for longer would be too old when it comes.
		limit := (o.window - new(autopaho.SubscribeConfig).LeastWindow(0)).Truncate(time.Second)
		if cfg.SessionExpiry = min(cfg.SessionExpiry, limit); cfg.SessionExpiry <= 0 {
			cfg.SessionExpiry = -1 // none
		}
	}
	cfg.ClientID = c.clientID
	if c.idPrefix != "" {
		cfg.ClientID = randomID(c.idPrefix)
	}
}

// randomID is a client ID that is made for this run.
func randomID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:10]) }

func (o *subOptions) subscription() (autopaho.SubscribeConfig, error) {
	retained := [...]autopaho.Retained{autopaho.RetainedAlways, autopaho.RetainedOnce, autopaho.RetainedNever}
	s := autopaho.SubscribeConfig{
		Filters: o.topics, QoS: o.qos, AtMostOnce: o.qos == 0, NoLocal: o.noLocal,
		RetainAsPublished: o.retainAsPublished, Retained: retained[o.retainHandling],
		Group: o.group, Unshared: o.unshared, Window: o.window, Lease: o.lease,
		Workers: o.workers, Receipts: o.receipts, Attempts: o.exec.attempts,
	}
	if o.workers == 1 && o.exec.command == "" {
		// One sequence for all topics: the output has the order of arrival. A command
		// that fails for one topic holds up no other.
		s.OrderBy = func(*autopaho.Message) string { return "" }
	}
	if o.dedupKey != "" {
		key, err := dedup.ParseKey(o.dedupKey)
		if err != nil {
			return s, &usageError{option: "--dedup-key", problem: oneLine(err)}
		}
		s.DedupKey = key
	}
	return s, nil
}
