package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/qos"
)

// connectionOptions are the options that tell which broker to connect to, and
// how: the same for pub, sub and relay.
type connectionOptions struct {
	host     string
	port     int
	urls     []string
	version  string
	clientID string
	idPrefix string

	username string
	password passwordOptions
	network  networkOptions
	unix     string

	keepSession   bool
	cleanStart    bool
	sessionExpiry sessionExpiry
	keepAlive     time.Duration

	tls tlsOptions

	will willOptions

	receiveMaximum int
	maxPacketSize  int
	window         int
	connectTimeout time.Duration
	policy         string
	receiptKeys    receiptKeyOptions

	given struct{ host, port, urls, unix *option }
	all   []*option
}

// The categories of options, in the order in which the help shows them.
const (
	catConnection = "Broker"
	catSession    = "Session"
	catTLS        = "TLS"
	catWill       = "Will"
	catLimits     = "Limits"
)

// options are the options; a relay is what pub and relay connect with.
func (o *connectionOptions) options(relay bool) []*option {
	o.host, o.keepAlive = "localhost", 60*time.Second
	idDefault, idHint := "made for each run", "it must differ between clients"
	keepUsage := "have the broker keep the session and what comes for it while this client is away; needs -i"
	expiryDefault := "60s; with -i and --group 24h, or as much as --window allows; with -c and no --group for ever"
	prefixUsage := "`PREFIX` of a client ID that is made for each run"
	if relay {
		idDefault, idHint = "made of the store's identity", "it must differ between clients, but need not between those with one store"
		keepUsage = "taken for mosquitto_pub's sake: a session is kept from one connection to the next in any case"
		expiryDefault = "24h"
		prefixUsage = "`PREFIX` of a client ID that is made of the store's identity"
	}
	host := &option{
		name: "host", also: []string{"h"}, category: catConnection, set: name(&o.host), def: "localhost",
		usage: "the broker's `HOST`",
	}
	port := &option{
		name: "port", also: []string{"p"}, category: catConnection, set: number(&o.port, 1, math.MaxUint16),
		def: "1883, or 8883 with TLS", usage: "the broker's `PORT`",
	}
	urls := &option{
		name: "url", also: []string{"L", "broker"}, category: catConnection, many: true, set: list(&o.urls), env: "ONCEMQ_BROKER", secret: inURL,
		usage: urlUsage + topicUsage + severalUsage,
	}
	unix := &option{
		name: "unix", category: catConnection, set: name(&o.unix),
		usage: "`PATH` of the broker's Unix domain socket, in place of host and port",
	}
	urls.excludes = []*option{host, port, unix}
	host.excludes = []*option{urls, unix}
	port.excludes = []*option{urls, unix}
	unix.excludes = []*option{urls, host, port}
	urls.alone = o.precedence
	o.given.host, o.given.port, o.given.urls, o.given.unix = host, port, urls, unix
	options := withEnv([]*option{
		host, port, urls, unix,
		{
			name: "mqtt-version", also: []string{"V", "protocol-version"}, category: catConnection, set: name(&o.version),
			usage: "the protocol's `VERSION`: mqttv5 or 5, the only one that there is",
		},
		{
			name: "username", also: []string{"u", "user"}, category: catConnection, set: text(&o.username),
			usage: "`NAME` to log in with",
		},
	})
	options = append(options, o.password.options()...)
	options = append(options, o.network.options()...)
	clientID := &option{
		name: "client-id", also: []string{"i", "id", "identifier"}, category: catSession, set: name(&o.clientID),
		def: idDefault, usage: "`ID` under which the broker knows this client; " + idHint,
	}
	keepSession := &option{
		name: "keep-session", also: []string{"c", "no-clean", "disable-clean-session"}, category: catSession, set: on(&o.keepSession),
		usage: keepUsage,
	}
	// The session of an ID that is made for one run is kept for nobody.
	prefix := &option{
		name: "id-prefix", also: []string{"I"}, category: catSession, set: name(&o.idPrefix), excludes: []*option{clientID, keepSession},
		usage: prefixUsage,
	}
	clientID.excludes = []*option{prefix}
	options = append(options, withEnv([]*option{
		{
			name: "connect-timeout", category: catConnection, set: positiveSpan(&o.connectTimeout), def: "10s",
			usage: "`TIME` for one attempt to connect; attempts go on until the command's own time is over",
		},
		clientID, prefix, keepSession,
		{
			name: "clean-start", category: catSession, set: on(&o.cleanStart),
			usage: "drop the session that the broker may have kept",
		},
		{
			name: "session-expiry", also: []string{"x"}, category: catSession, set: o.sessionExpiry.set,
			def: expiryDefault, usage: "`TIME` for which the broker keeps the session of a client that is away; -1 is for ever",
		},
		{
			name: "keepalive", also: []string{"k", "keep-alive"}, category: catSession, set: wholeSpan(&o.keepAlive, 1, math.MaxUint16),
			def: "60s", usage: "`SECONDS` after which a silent connection is checked; a dead one is noticed within twice that",
		},
	})...)
	options = append(options, o.tls.options()...)
	options = append(options, o.will.options()...)
	options = append(options, o.receiptKeys.options(relay)...)
	options = append(options, withEnv([]*option{
		{
			name: "receive-maximum", category: catLimits, set: number(&o.receiveMaximum, 1, math.MaxUint16),
			def: "256", usage: "most unacknowledged messages, a `NUMBER`, that the broker may send us",
		},
		{
			name: "max-packet-size", category: catLimits, set: number(&o.maxPacketSize, 128, 256<<20),
			def: "2097152", usage: "largest packet to receive, in `BYTES`",
		},
		{
			name: "max-inflight", also: []string{"M"}, category: catLimits, set: number(&o.window, 1, 65000),
			def: "1024", usage: "most messages, a `NUMBER`, that are sent and not acknowledged; the broker's own limit holds as well",
		},
		{
			name: "policy", category: catLimits, set: name(&o.policy),
			usage: "YAML `FILE` with delivery policies by topic: level, expiry, attempts, backoff, order, receipts",
		},
	})...)
	o.all = options
	return options
}

// several are the options of a command with connections of its own making: without
// those that belong to one client and its session, and without some by name.
func (o *connectionOptions) several(but ...string) []*option {
	var will []*option
	options := deleteOf(o.options(false), catWill, &will)
	return without(options, append(but, "client-id", "keep-session", "clean-start", "policy", "receipt-key-file")...)
}

// orOwn is for a command that works with one broker, and starts one of its own where
// none is named.
func (o *connectionOptions) orOwn(note string) {
	o.given.host.def, o.given.urls.def = "localhost, with --port", "a broker of the command's own"
	o.given.urls.usage, o.given.urls.many = urlUsage+note, false
}

// What there is to say of --url.
const (
	urlUsage = "the broker's `URL`, in place of host and port: mqtt://, mqtts://, ws://, wss:// with host and port, or " +
		"unix:///path. User name and password may be in it"
	topicUsage   = "; the path of mqtt and mqtts is the topic unless -t is given"
	severalUsage = ". Give it several times for several brokers, which are tried in turn (separated by blanks in the environment)"
)

// sessionExpiry is the value of -x.
type sessionExpiry struct {
	given bool
	value time.Duration
}

// neverExpires is what MQTT has for a session without an end (section 3.1.2.11.2).
const neverExpires = math.MaxUint32 * time.Second

func (e *sessionExpiry) set(s string) error {
	e.given = true
	if s == "-1" || s == "∞" {
		e.value = neverExpires
		return nil
	}
	return wholeSpan(&e.value, 0, math.MaxUint32)(s)
}

// config is the value as the library takes it: zero is its default.
func (e *sessionExpiry) config() time.Duration {
	if e.given && e.value == 0 {
		return -1
	}
	return e.value
}

// named tells whether a broker was named at all.
func (o *connectionOptions) named() bool {
	g := &o.given
	return g.host.given || g.port.given || g.urls.given || g.unix.given
}

// config makes the library's configuration of the options, and the topic that
// a URL names.
func (o *connectionOptions) config(ctx context.Context, sh *shell) (cfg autopaho.Config, topic string, err error) {
	if err := checkVersion(o.version); err != nil {
		return cfg, "", err
	}
	t, err := o.target()
	if err != nil {
		return cfg, "", err
	}
	cfg = autopaho.Config{
		Servers: t.servers, Username: o.username, KeepAlive: o.keepAlive,
		CleanStart: o.cleanStart, ConnectTimeout: o.connectTimeout,
		ReceiveMaximum: o.receiveMaximum, MaximumPacketSize: o.maxPacketSize,
		Logger: sh.log.logger(),
	}
	cfg.Relay.Window = o.window
	if cfg.ConnectTimeout != 0 && cfg.ConnectTimeout < 10*time.Millisecond {
		return cfg, "", &usageError{option: "--connect-timeout", problem: fmt.Sprintf("%s is too short; use 10ms or more", cfg.ConnectTimeout)}
	}
	if cfg.Username == "" {
		cfg.Username = t.username
	}
	password, given, err := o.password.read(ctx, sh)
	if err != nil {
		return cfg, "", err
	}
	if !given {
		password = t.password
	}
	cfg.Password, cfg.Credentials = []byte(password), o.password.renewed(cfg.Username)
	if err := o.checkNames(cfg.Username); err != nil {
		return cfg, "", err
	}
	if len(password) > math.MaxUint16 {
		return cfg, "", &usageError{option: "--pw", problem: "the password is longer than 65,535 bytes"}
	}
	if cfg.TLS, cfg.TLSFiles, err = o.tls.config(ctx, sh); err != nil {
		return cfg, "", err
	}
	if cfg.ReceiptKeys, err = o.receiptKeys.read(ctx, sh); err != nil {
		return cfg, "", err
	}
	if cfg.Will, cfg.WillDelay, err = o.will.message(ctx); err != nil {
		return cfg, "", err
	}
	if cfg.Policies, err = readPolicies(ctx, o.policy); err != nil {
		return cfg, "", err
	}
	if err := o.network.apply(ctx, &cfg); err != nil {
		return cfg, "", err
	}
	warnPlain(sh, t.servers, password)
	return cfg, t.topic, nil
}

// checkNames checks what goes into CONNECT.
func (o *connectionOptions) checkNames(username string) error {
	for _, f := range []struct{ option, value string }{
		{"--client-id", o.clientID}, {"--id-prefix", o.idPrefix}, {"--username", username},
	} {
		if err := qos.ValidateString("value", f.value); err != nil {
			return &usageError{option: f.option, problem: bare(err).Error()}
		}
	}
	if o.clientID != "" && o.idPrefix != "" {
		return &usageError{option: "--client-id", problem: "cannot stand beside --id-prefix; give one"}
	}
	return nil
}

// checkVersion accepts the names that mosquitto, MQTTX and HiveMQ have for MQTT 5.
func checkVersion(v string) error {
	switch v {
	case "", "5", "5.0", "mqttv5", "v5":
		return nil
	}
	return &usageError{option: "--mqtt-version", problem: shown(v) + " is not spoken here, since only MQTT 5 has what is promised; use mqttv5"}
}
