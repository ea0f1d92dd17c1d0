package autopaho

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// Config describes a client. Servers is required; every other field has a
// default that is good for a service on a local network.
type Config struct {
	// Servers are the broker's URLs: mqtt://host:1883, mqtts://host:8883,
	// ws://, wss:// or unix:///path. With several, they are tried in turn. User
	// information in a URL serves as Username and Password if those are empty.
	Servers []string

	// ClientID names the MQTT session of subscriptions; the relay's sessions
	// have names of their own. It must be stable for a replica and differ
	// between replicas: with one that changes, the broker keeps messages for a
	// client that never comes back. Default: "oncemq-" and random digits,
	// which is good for a process that needs no session after it has ended.
	ClientID string

	// Username and Password go into CONNECT. They appear in no log and no
	// error of this package.
	Username string
	Password []byte

	// Credentials, if set, is asked before each attempt to connect, and what it
	// returns stands for Username, Password and TLS: so credentials that change
	// are used without a restart. It may be called from several goroutines; the
	// context ends with ConnectTimeout. After an error the attempt counts as
	// failed and is made again. A broker that refuses credentials which it took
	// before is tried again as well, since they are being changed; otherwise
	// such a refusal is ErrRefused.
	Credentials func(context.Context) (Credentials, error)

	// TLS is for mqtts and wss. Default: the system's roots, TLS 1.2 or newer.
	TLS *tls.Config

	// TLSFiles are PEM files of certificates that stand for parts of TLS, and of
	// the TLS of Credentials. They are read before each attempt to connect: what is
	// replaced is used at the next connection, without a restart. Files that cannot
	// be read, or do not fit each other, are refused by New, as ErrConfig; later
	// they are the error of the attempt, which is made again.
	TLSFiles TLSFiles

	// Header is sent with a WebSocket's handshake.
	Header http.Header

	// Dial makes the network connection to a server in place of a net.Dialer: from
	// an address of this host's, through a proxy, or to where a name leads. TLS and
	// WebSocket are on top of it, and verify the name that the server's URL has. It
	// heeds its context, which ends with ConnectTimeout, and may be called from
	// several goroutines; its error is the attempt's, which is made again.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// KeepAlive is how long the connection may be silent, in whole seconds
	// from 1 to 65,535. A dead peer is noticed within twice that. Default 15 s.
	KeepAlive time.Duration

	// SessionExpiry is how long the broker keeps the session of a client that
	// is away, in whole seconds. Too short, and messages published meanwhile
	// are lost to this subscriber; too long, and what the broker keeps for a
	// replica that is gone for good waits as long, for the others of a group as
	// well. Default 24 h; negative means none. If ClientID is left open too, the
	// session of subscriptions is kept for 5 min: nobody but this process comes
	// back to it, and a longer loss of the connection loses messages.
	SessionExpiry time.Duration

	// CleanStart drops the broker's session, and what it kept, at the first
	// connection of the subscriptions.
	CleanStart bool

	// ConnectTimeout bounds one attempt to connect. Default 10 s.
	ConnectTimeout time.Duration
	// WriteTimeout bounds one write; a broker that does not read for that
	// long is disconnected. Default 10 s.
	WriteTimeout time.Duration
	// PacketTimeout bounds the wait for the answer to SUBSCRIBE. Default 10 s.
	PacketTimeout time.Duration
	// AckTimeout bounds the wait for the answer to PUBLISH; then the
	// connection is made anew. Default 30 s.
	AckTimeout time.Duration

	// ReceiveMaximum is the most unacknowledged QoS 1 and 2 messages that the
	// broker may send us: the bound of work in progress and of memory, 1 to
	// 65,535. Of a broker that sends more all the same (mosquitto 2.0 does) up to
	// 1,024 messages or 4 MiB are taken in beyond it; the others are read as those
	// are acknowledged. Default 256.
	ReceiveMaximum int
	// MaximumPacketSize is the largest packet that we take, in bytes; a larger
	// one ends the connection. Default 2 MiB.
	MaximumPacketSize int

	// Will is published by the broker when this client's connection ends
	// without DISCONNECT. Its Expiry is the will's Message Expiry Interval.
	Will *persist.Message
	// WillDelay is how long the broker waits before that, in whole seconds, so
	// that a reconnection cancels the will.
	WillDelay time.Duration

	// Store keeps the outbox and the processed keys. Without one there is no
	// Enqueue, and groups have no dedup. Who opened it closes it, after the
	// client.
	Store persist.Store

	// MaxPayload is the largest payload that Enqueue and Publish take, in
	// bytes. Default 1 MiB.
	MaxPayload int

	// Policies tell how messages are delivered, by topic.
	Policies qos.Policies

	// ReceiptKeys prove where receipts come from: publisher and consumers have
	// the same. A consumer signs with the first (HMAC-SHA-256 over message ID,
	// status and reason); a publisher takes those that were signed with any of
	// them, and ignores and counts all others (Counters.ForgedReceipts), also
	// those without a signature. At least 16 bytes each. To change a key, add
	// the new one as the last to all, then make it the first, then leave out the
	// old one. Nil, the default: who may publish to the receipt topic may
	// acknowledge, so its ACL is what protects it.
	ReceiptKeys [][]byte

	// ResponseTopic is where responses to [Client.Request] go; a random name is added
	// to it, so that each client has a topic of its own. Default "oncemq/responses".
	ResponseTopic string

	// Relay tells how the outbox is drained.
	Relay RelayConfig

	// Logger gets what an operator should know. Nil discards. No payload, no
	// credential is ever logged.
	Logger *slog.Logger

	// MeterProvider, if set, gets metrics: everything that Status tells, and some
	// durations; docs/observability.md lists them. What is counted is read when
	// the provider's reader collects, which asks the store for its Stats at most
	// every 5 s; the messages pay nothing for it. Clients that share a provider
	// add their counters up, and of their gauges one is seen: give each a provider
	// with a resource of its own. Nil, the default, means no metrics: no global
	// provider is used.
	MeterProvider metric.MeterProvider

	// TracerProvider, if set, gets spans: of each Enqueue, of each transmission by
	// the relay (from the PUBLISH to the broker's answer), of each delivery (from
	// the PUBLISH to its acknowledgement) and of each run of a handler, all in one
	// trace, whatever processes and whatever time lie between them. Its sampler is
	// asked by Enqueue, and for messages that come without a context; the rest goes
	// by what it said. The spans of a relay end on the connection's goroutine, so
	// spans must be processed in batches. Nil, the default, means no spans, and that
	// messages get no context.
	TracerProvider trace.TracerProvider

	// Propagator puts the context into user properties, at Enqueue and Publish, and
	// reads it from there. A message that has one already keeps it. Default: that
	// of the W3C, traceparent and tracestate: some 70 bytes in the store and on
	// the wire. Without a TracerProvider it is not used.
	Propagator propagation.TextMapPropagator

	// OnEvent is told what happens, from several goroutines. It must not block:
	// while it does, connections and acknowledgements wait. Its panic ends the process.
	OnEvent func(Event)

	// OnBreaker is told that a circuit breaker has opened, and that it is closed
	// again: the place to shed load or to fall back on something else, and to
	// stop doing so. The calls for one breaker come one at a time and in order.
	// It must not block.
	OnBreaker func(BreakerStatus)

	// Recent is of how many messages [Client.Recent] remembers what became of them:
	// up to MaxRecent, some 200 bytes each, and two allocations for a message. Zero,
	// the default, means none.
	Recent int

	// passing tells that the session of subscriptions is this process's alone, and is
	// kept accordingly; nameless that nobody comes back to it, however long it is kept.
	passing, nameless bool
}

// Credentials are what one connection logs in with: Username and Password, as
// those of [Config], and TLS, nil for Config.TLS.
type Credentials = session.Credentials

// TLSFiles are the files of [Config.TLSFiles].
type TLSFiles = session.TLSFiles

// RelayConfig tells how a client drains the outbox of its store.
type RelayConfig struct {
	// Off leaves the draining to other processes on the same store.
	Off bool

	// Window is the most messages in flight on a lane, 1 to 65,000; the
	// broker's Receive Maximum bounds it too. Default 1,024.
	Window int
	// WindowBytes is the most payload bytes in flight on a lane. Default 8 MiB.
	WindowBytes int

	// Lease is how long a lane stays with a relay that has died; it is renewed
	// at a third of that. At least 1 s. Default 5 s.
	Lease time.Duration

	// Poll is how often the outbox is looked at without having been notified,
	// which finds what other processes stored. Default 500 ms.
	Poll time.Duration

	// ClientID names the MQTT sessions of the lanes; with several lanes the
	// number of each is added. It must differ between stores: two that share
	// one take each other's session. Default: "oncemq-" and the store's
	// identity.
	ClientID string

	// Will is published by the broker when the connection of lane 0 ends
	// without DISCONNECT, after Config.WillDelay. Nil for none.
	Will *persist.Message

	// ReceiptTopic is where consumers send receipts; the store's identity and
	// the lane are added to it. Default "oncemq/receipts".
	ReceiptTopic string
}

const defaultMaxPayload = 1 << 20

func (c *Config) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	c.nameless = c.ClientID == ""
	c.passing = c.nameless && c.SessionExpiry == 0
	if c.ClientID == "" {
		c.ClientID = "oncemq-" + uuid.NewString()[:13]
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	def(&c.KeepAlive, 15*time.Second)
	def(&c.SessionExpiry, 24*time.Hour)
	def(&c.ConnectTimeout, 10*time.Second)
	def(&c.WriteTimeout, 10*time.Second)
	def(&c.PacketTimeout, 10*time.Second)
	def(&c.AckTimeout, 30*time.Second)
	num(&c.ReceiveMaximum, 256)
	num(&c.MaximumPacketSize, 2<<20)
	num(&c.MaxPayload, defaultMaxPayload)
	num(&c.Relay.Window, 1024)
	num(&c.Relay.WindowBytes, 8<<20)
	def(&c.Relay.Lease, 5*time.Second)
	def(&c.Relay.Poll, 500*time.Millisecond)
	if c.ResponseTopic == "" {
		c.ResponseTopic = "oncemq/responses"
	}
	if c.Relay.ReceiptTopic == "" {
		c.Relay.ReceiptTopic = "oncemq/receipts"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Propagator == nil {
		c.Propagator = propagation.TraceContext{}
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
}

// Validate lists everything that is wrong with the configuration, joined; each
// fault wraps ErrConfig and names its field. It reads TLSFiles.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...)))
	}
	if len(c.Servers) == 0 {
		bad("Servers", "is empty; name at least one broker, such as mqtt://localhost:1883")
	}
	for _, s := range c.Servers {
		if _, err := session.ParseServer(s); err != nil {
			bad("Servers", "%s", err)
		}
	}
	if err := qos.ValidateString("ClientID", c.ClientID); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	if err := qos.ValidateString("Username", c.Username); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	if len(c.Password) > math.MaxUint16 {
		bad("Password", "is longer than 65,535 bytes")
	}
	if _, err := c.TLSFiles.Apply(nil); err != nil {
		bad("TLSFiles", "%s", err)
	}
	within := func(field string, d, low, high time.Duration) {
		if d != 0 && (d < low || d > high) {
			bad(field, "%s is out of range; use %s to %s, or 0 for the default", d, low, high)
		}
	}
	within("KeepAlive", c.KeepAlive, time.Second, 65535*time.Second)
	if c.SessionExpiry > math.MaxUint32*time.Second {
		bad("SessionExpiry", "%s is more than MQTT can carry", c.SessionExpiry)
	}
	const long = 24 * time.Hour
	within("ConnectTimeout", c.ConnectTimeout, 10*time.Millisecond, long)
	within("WriteTimeout", c.WriteTimeout, 10*time.Millisecond, long)
	within("PacketTimeout", c.PacketTimeout, 10*time.Millisecond, long)
	within("AckTimeout", c.AckTimeout, 40*time.Millisecond, long)
	within("Relay.Lease", c.Relay.Lease, time.Second, long)
	within("Relay.Poll", c.Relay.Poll, time.Millisecond, long)
	count := func(field string, n, low, high int) {
		if n != 0 && (n < low || n > high) {
			bad(field, "%d is out of range; use %d to %d, or 0 for the default", n, low, high)
		}
	}
	count("ReceiveMaximum", c.ReceiveMaximum, 1, math.MaxUint16)
	count("MaximumPacketSize", c.MaximumPacketSize, 128, 256<<20)
	count("MaxPayload", c.MaxPayload, 1, 256<<20)
	count("Recent", c.Recent, 1, MaxRecent)
	count("Relay.Window", c.Relay.Window, 1, 65000)
	count("Relay.WindowBytes", c.Relay.WindowBytes, 1, 1<<30)
	for i, key := range c.ReceiptKeys {
		if len(key) < leastKey {
			bad("ReceiptKeys", "key %d has %d bytes; use %d random ones or more", i+1, len(key), leastKey)
		}
	}
	for field, t := range map[string]string{"Relay.ReceiptTopic": c.Relay.ReceiptTopic, "ResponseTopic": c.ResponseTopic} {
		if t == "" {
			continue
		}
		if err := qos.ValidateTopic(t); err != nil {
			bad(field, "%s", err)
		}
	}
	if err := qos.ValidateString("Relay.ClientID", c.Relay.ClientID); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	for field, will := range map[string]*persist.Message{"Will": c.Will, "Relay.Will": c.Relay.Will} {
		if will == nil {
			continue
		}
		if err := validate(will, math.MaxUint16); err != nil {
			bad(field, "%s", err)
		}
	}
	return errors.Join(errs...)
}

// servers are the parsed URLs, and the credentials in force.
func (c *Config) servers() (urls []*url.URL, username string, password []byte) {
	username, password = c.Username, c.Password
	for _, s := range c.Servers {
		u, err := session.ParseServer(s)
		if err != nil {
			continue // Validate has refused it
		}
		if u.User != nil && username == "" {
			username = u.User.Username()
			if p, ok := u.User.Password(); ok && len(password) == 0 {
				password = []byte(p)
			}
		}
		urls = append(urls, u)
	}
	return urls, username, password
}

// passingExpiry is for how long the broker keeps a session that only this process
// comes back to.
const passingExpiry = 5 * time.Minute

// subscriberExpiry is for how long the broker keeps the session of
// subscriptions, in whole seconds.
func (c *Config) subscriberExpiry() time.Duration {
	if c.passing {
		return passingExpiry
	}
	return time.Duration(c.sessionExpiry()) * time.Second
}

// sessionExpiry is the Session Expiry Interval in seconds.
func (c *Config) sessionExpiry() uint32 {
	if c.SessionExpiry < 0 {
		return 0
	}
	return uint32(c.SessionExpiry / time.Second)
}
