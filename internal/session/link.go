package session

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	pahoauto "github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// Config describes a link. The caller has validated it and filled in every
// field but the optional ones.
type Config struct {
	Servers  []*url.URL // tried in order; user information in them is not used
	ClientID string     // not empty: an assigned one would change at each connection
	Username string
	Password []byte
	// Credentials, if set, is asked before each attempt to connect, and stands
	// for Username, Password and TLS. Its time is part of ConnectTimeout; its
	// error is the attempt's.
	Credentials func(context.Context) (Credentials, error)
	// Accepted is set once the server has taken a connection; links that log in
	// alike share it. Nil for one of the link's own.
	Accepted *atomic.Bool
	// TLS is for mqtts and wss; nil uses the system's roots.
	TLS *tls.Config
	// TLSFiles are read before each attempt and stand for parts of TLS.
	TLSFiles TLSFiles
	// Header is sent with the WebSocket handshake.
	Header http.Header
	// Dial makes network connections; nil for net.Dialer.
	Dial Dial
	// KeepAlive is in whole seconds, at least one.
	KeepAlive time.Duration
	// SessionExpiry is how long the server keeps the session after a
	// connection; the largest value keeps it for ever.
	SessionExpiry uint32
	// CleanStart drops the server's session at the first connection.
	CleanStart bool
	// Will, if set, is the will message; WillProperties may be nil.
	Will           *paho.WillMessage
	WillProperties *paho.WillProperties

	// Permit, if set, is asked before each attempt to connect, and may wait. Its
	// time is part of ConnectTimeout; its error stands for the attempt's.
	Permit func(context.Context) error

	ConnectTimeout time.Duration // network, TLS, and until CONNACK
	PacketTimeout  time.Duration // until SUBACK and UNSUBACK
	AckTimeout     time.Duration // until PUBACK, PUBREC and PUBCOMP

	Engine EngineConfig
	Logger *slog.Logger
	// OnUp, OnDown and OnError are called as connections begin, end and cannot
	// be made, one at a time, and must not block. OnDown and OnError get the
	// reason.
	OnUp    func(Snapshot)
	OnDown  func(error)
	OnError func(error)

	backoff time.Duration // backoffBase if zero; tests have less time
}

// Link keeps one MQTT session connected until it is closed or refused for good.
//
// It owns autopaho's goroutines, the engine's writer and a watchdog; Done
// closes once all have ended.
type Link struct {
	cfg     Config
	engine  *Engine
	manager *pahoauto.ConnectionManager
	retry   *reconnect
	cancel  context.CancelFunc
	done    chan struct{}
	connect *paho.Connect // of the attempt under way; autopaho's goroutine's

	mu      sync.Mutex // guards the following
	conn    *conn      // the latest one
	upSince time.Time
	secret  string    // the password that was sent last
	stale   time.Time // when the client certificate of the attempt ran out
	err     error     // why the link ended for good
}

// Start begins to connect and returns at once.
func Start(cfg Config) (*Link, error) {
	// The life of a link is bounded by Close, not by the caller's context: what
	// was accepted goes on being delivered after the call that accepted it.
	ctx, cancel := context.WithCancel(context.Background())
	if cfg.Accepted == nil {
		cfg.Accepted = new(atomic.Bool)
	}
	l := &Link{cfg: cfg, engine: NewEngine(cfg.Engine), retry: newReconnect(cmp.Or(cfg.backoff, backoffBase)), cancel: cancel, done: make(chan struct{})}

	servers := make([]*url.URL, len(cfg.Servers))
	for i, u := range cfg.Servers {
		bare := *u
		bare.User = nil // autopaho puts the URL into its errors
		servers[i] = &bare
	}
	pc := pahoauto.ClientConfig{
		ServerUrls:                    servers,
		KeepAlive:                     uint16(max(1, min(cfg.KeepAlive/time.Second, 65535))),
		CleanStartOnInitialConnection: cfg.CleanStart,
		SessionExpiryInterval:         cfg.SessionExpiry,
		ConnectUsername:               cfg.Username,
		ConnectPassword:               cfg.Password,
		WillMessage:                   cfg.Will,
		WillProperties:                cfg.WillProperties,
		ConnectTimeout:                cfg.ConnectTimeout,
		ReconnectBackoff:              func(int) time.Duration { return l.retry.next(time.Now()) },
		AttemptConnection:             l.attempt,
		ConnectPacketBuilder:          l.connectPacket,
		OnConnectionUp:                l.up,
		OnConnectionDown:              l.down,
		OnConnectError:                l.failed,
		// paho's own loggers stay silent: its debug output prints CONNECT
		// with the password.
		ClientConfig: paho.ClientConfig{
			ClientID: cfg.ClientID, Session: l.engine, PacketTimeout: cfg.PacketTimeout,
			PingHandler: pinger{keepAlive: cfg.KeepAlive},
			// Calls Authenticated when a CONNACK names an Authentication Method,
			// though we never do, and would panic if there were none.
			AuthHandler: noAuth{},
			// Never called: PUBLISH does not reach paho. Set because paho
			// would build a router otherwise.
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(paho.PublishReceived) (bool, error) { return true, nil },
			},
		},
	}
	manager, err := pahoauto.NewConnection(ctx, pc)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start link: %w", err)
	}
	l.manager = manager
	go l.run(ctx)
	return l, nil
}

// run owns the link's goroutines.
func (l *Link) run(ctx context.Context) {
	defer close(l.done)
	var wg sync.WaitGroup
	writerCtx, stopWriter := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() { l.engine.Run(writerCtx) })
	wg.Go(func() { l.watch(writerCtx) })
	<-l.manager.Done() // by Close, or because the server refused for good
	stopWriter()
	wg.Wait()
	l.cancel()
}

// watch drops a connection on which the server does not acknowledge.
func (l *Link) watch(ctx context.Context) {
	t := time.NewTicker(max(l.cfg.AckTimeout/4, 10*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			l.engine.dropStalled(now, l.cfg.AckTimeout)
		}
	}
}

// attempt makes the network connection. autopaho gives it a context without
// ConnectTimeout.
func (l *Link) attempt(ctx context.Context, _ pahoauto.ClientConfig, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.ConnectTimeout)
	defer cancel()
	if l.cfg.Permit != nil {
		if err := l.cfg.Permit(ctx); err != nil {
			return nil, err
		}
	}
	connect, tlsConfig, err := l.credentials(ctx)
	if err != nil {
		return nil, err
	}
	nc, err := dial(ctx, u, tlsConfig, l.cfg.Header, l.cfg.Dial)
	if err != nil {
		return nil, err
	}
	c := newConn(nc, l.engine)
	c.connect = appendConnect(nil, connect, &l.cfg)
	l.mu.Lock()
	l.conn = c
	l.mu.Unlock()
	return c, nil
}

// connectPacket takes the CONNECT as autopaho and paho will have it, which is not
// all of it: see appendConnect.
func (l *Link) connectPacket(p *paho.Connect, _ *url.URL) (*paho.Connect, error) {
	l.connect = p
	if p.Properties == nil {
		p.Properties = &paho.ConnectProperties{}
	}
	one := uint16(1) // the length of a channel that paho makes, which nothing goes through
	p.Properties.ReceiveMaximum = &one
	return p, nil
}

func (l *Link) up(*pahoauto.ConnectionManager, *paho.Connack) {
	l.mu.Lock()
	l.upSince = time.Now()
	l.mu.Unlock()
	l.cfg.Accepted.Store(true)
	if l.cfg.OnUp != nil {
		l.cfg.OnUp(l.engine.Snapshot())
	}
}

// down decides whether to connect again. The engine knows why the connection
// ended: paho told it before, which it does not promise for its callbacks.
func (l *Link) down() bool {
	s := l.engine.Snapshot()
	l.mu.Lock()
	uptime := time.Since(l.upSince)
	l.mu.Unlock()
	cause := s.Cause
	if cause == nil {
		cause = errors.New("connection was lost")
	}
	switch {
	case tooMuch(cause):
		l.retry.pressed()
	default:
		var fault *protocolError
		l.retry.ended(uptime, s.Progress && !errors.As(cause, &fault))
	}
	final := l.refusedForGood(cause) || errors.Is(cause, ErrSessionTakenOver)
	if final {
		l.end(cause)
		l.cancel() // autopaho's queue goroutine would wait for a connection for ever
	}
	if l.cfg.OnDown != nil {
		l.cfg.OnDown(cause)
	}
	return !final
}

// failed tells of an attempt that did not become a connection, and gives up if
// the server's answer will not change by itself.
func (l *Link) failed(err error) {
	var refused *pahoauto.ConnackError
	secrets := l.secrets()
	if errors.As(err, &refused) && refused.ReasonCode >= 0x80 {
		err = &ConnackError{Code: refused.ReasonCode, Reason: redact(refused.Reason, secrets)}
	} else {
		err = &redacted{err: err, secrets: secrets}
		l.mu.Lock()
		if !l.stale.IsZero() {
			err = &staleError{err: err, until: l.stale}
		}
		l.mu.Unlock()
	}
	if l.refusedForGood(err) {
		l.end(err)
		l.cancel() // ends autopaho's loop
	}
	if l.cfg.OnError != nil {
		l.cfg.OnError(err)
	}
}

// secrets are what must not stand in an error: autopaho quotes the server's URL,
// and a server may quote what it refuses.
func (l *Link) secrets() []string {
	var all []string
	for _, u := range l.cfg.Servers {
		if u.User != nil {
			all = append(all, u.User.String())
		}
		if u.RawQuery != "" {
			all = append(all, u.RawQuery) // of a WebSocket: may be a token
		}
	}
	if len(l.cfg.Password) > 0 {
		all = append(all, string(l.cfg.Password))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret != "" {
		all = append(all, l.secret)
	}
	return all
}

func (l *Link) end(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
}

// Engine is the link's session engine.
func (l *Link) Engine() *Engine { return l.engine }

// Done closes once the link has ended.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err tells why the link ended for good: it wraps ErrRefused,
// ErrSessionTakenOver or ErrClosed, and is nil while the link lives.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Await returns nil once a connection is up.
func (l *Link) Await(ctx context.Context) error {
	err := l.manager.AwaitConnection(ctx)
	select {
	case <-l.manager.Done(): // which AwaitConnection may not have noticed
		<-l.done
		return l.Err()
	default:
		return err
	}
}

// Close ends the session's connection with DISCONNECT, after the
// acknowledgements that are due, sees to it that the server gets them, and
// joins every goroutine. Whoever wants messages in flight to be acknowledged
// first waits with Engine.WaitIdle. Close is idempotent; ctx bounds the wait,
// and the link ends in any case.
func (l *Link) Close(ctx context.Context) error {
	l.end(ErrClosed)
	if l.engine.Snapshot().Connected {
		_ = l.engine.WaitFlushed(ctx) // what does not leave comes again
		if c := l.latest(); c != nil {
			c.endCleanly()
		}
	}
	if err := l.manager.Disconnect(ctx); err != nil {
		l.Drop() // the server does not read: end the hard way
	}
	<-l.done
	return nil
}

// Drop ends the current connection without a word, as a network failure would.
// The link connects again.
func (l *Link) Drop() {
	if c := l.latest(); c != nil {
		c.hangUp()
	}
}

func (l *Link) latest() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// noAuth takes note of an authentication that was never asked for. AUTH itself
// does not get as far as paho: see checkHeader.
type noAuth struct{}

func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{ReasonCode: 0x18} }
func (noAuth) Authenticated()                     {}
