package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
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
		usage: "the broker's `URL`, in place of host and port: mqtt://, mqtts://, ws://, wss:// with host and port, or " +
			"unix:///path. User name and password may be in it; the path of mqtt and mqtts is the topic unless -t is given. " +
			"Give it several times for several brokers, which are tried in turn (separated by blanks in the environment)",
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
	options = append(options, withEnv([]*option{
		{
			name: "connect-timeout", category: catConnection, set: span(&o.connectTimeout), def: "10s",
			usage: "`TIME` for one attempt to connect; attempts go on until the command's own time is over",
		},
		{
			name: "client-id", also: []string{"i", "id", "identifier"}, category: catSession, set: name(&o.clientID),
			def: idDefault, usage: "`ID` under which the broker knows this client; " + idHint,
		},
		{
			name: "id-prefix", also: []string{"I"}, category: catSession, set: name(&o.idPrefix),
			usage: prefixUsage,
		},
		{
			name: "keep-session", also: []string{"c", "no-clean", "disable-clean-session"}, category: catSession, set: on(&o.keepSession),
			usage: keepUsage,
		},
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

// brief are the options of a command that connects to look at something, and more of
// them by name.
func (o *connectionOptions) brief(more ...string) []*option {
	return only(o.options(false), append(more, "host", "port", "url", "mqtt-version", "username", "pw", "password-env", "password-file",
		"connect-timeout", "keepalive")...)
}

// several are the options of a command with connections of its own making: without
// those that belong to one client and its session, and without some by name.
func (o *connectionOptions) several(but ...string) []*option {
	var will []*option
	options := deleteOf(o.options(false), catWill, &will)
	return without(options, append(but, "client-id", "keep-session", "clean-start", "policy", "receipt-key-file")...)
}

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

// target is where a command line points to.
type target struct {
	servers            []string // without user information
	username, password string   // of a URL
	topic              string   // of a URL's path
}

// target reads URLs, host and port.
func (o *connectionOptions) target() (target, error) {
	var t target
	if o.unix != "" {
		if o.tls.wanted() {
			return t, &usageError{option: "--unix", problem: "has no TLS; leave the TLS options out"}
		}
		path, err := filepath.Abs(o.unix)
		if err != nil {
			return t, &usageError{option: "--unix", problem: err.Error()}
		}
		return target{servers: []string{(&url.URL{Scheme: "unix", Path: path}).String()}}, nil
	}
	urls := o.urls
	if len(urls) == 1 && o.given.urls.given {
		urls = strings.Fields(urls[0]) // no URL has a blank
		if len(urls) == 0 {
			return t, &usageError{option: "--url", problem: "is empty; it looks like mqtt://host:1883"}
		}
	}
	if len(urls) == 0 {
		return target{servers: []string{o.hostURL()}}, nil
	}
	for i, raw := range urls {
		u, err := parseBroker(raw)
		if err != nil {
			return t, &usageError{option: "--url", problem: err.Error()}
		}
		if i == 0 && u.User != nil {
			t.username = u.User.Username()
			t.password, _ = u.User.Password()
		}
		u.User = nil
		if topic := strings.TrimPrefix(u.Path, "/"); u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "unix" {
			if t.topic == "" {
				t.topic = topic
			}
			u.Path, u.RawPath = "", ""
		}
		if o.tls.wanted() && (u.Scheme == "mqtt" || u.Scheme == "ws") {
			return t, &usageError{option: "--url", problem: "does not ask for TLS, and a TLS option is given; use " + u.Scheme + "s://"}
		}
		t.servers = append(t.servers, u.String())
	}
	return t, nil
}

// parseBroker reads a broker's URL. Its errors do not show the user information.
func parseBroker(raw string) (*url.URL, error) {
	const form = "it looks like mqtt://host:1883 or mqtts://host:8883/topic"
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("cannot be parsed; " + form + ", with special characters as %XX")
	}
	bare := *u
	bare.User = nil
	err = (&autopaho.Config{Servers: []string{bare.String()}}).Validate()
	if err != nil {
		_, problem, _ := strings.Cut(oneLine(err), "Servers: ")
		return nil, errors.New(problem)
	}
	if u.Fragment != "" || u.RawQuery != "" && u.Scheme != "ws" && u.Scheme != "wss" {
		return nil, errors.New("has a ? or # that means nothing here; " + form + ", with special characters as %XX")
	}
	return u, nil
}

// hostURL is the URL of host and port. Port 8883 means TLS, as with mosquitto.
func (o *connectionOptions) hostURL() string {
	scheme, port := "mqtt", o.port
	if o.tls.wanted() || port == 8883 {
		scheme = "mqtts"
	}
	if port == 0 {
		port = 1883
		if scheme == "mqtts" {
			port = 8883
		}
	}
	host := strings.TrimSuffix(strings.TrimPrefix(o.host, "["), "]")
	return (&url.URL{Scheme: scheme, Host: net.JoinHostPort(host, strconv.Itoa(port))}).String()
}

// precedence refuses options of the command line that exclude each other; in the
// environment they do not, over which the command line wins: -h over ONCEMQ_BROKER.
func (o *connectionOptions) precedence() error {
	byURL := o.given.urls.given
	byHost := o.given.host.given || o.given.port.given
	switch {
	case byURL && byHost:
		return &usageError{option: "--url", problem: "cannot stand beside --host and --port; put both into the URL, or leave it out"}
	case o.given.unix.given && (byURL || byHost):
		return &usageError{option: "--unix", problem: "cannot stand beside --url, --host and --port; it says all of it"}
	}
	return nil
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
