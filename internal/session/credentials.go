package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"

	"github.com/eclipse/paho.golang/paho"

	"github.com/oncemq/oncemq/qos"
)

// Credentials are what one connection logs in with.
type Credentials struct {
	Username string
	Password []byte
	// TLS stands for the configuration's; nil leaves that.
	TLS *tls.Config
}

// credentials returns the CONNECT of the attempt under way with the credentials
// that are right now, and the TLS configuration.
func (l *Link) credentials(ctx context.Context) (*paho.Connect, *tls.Config, error) {
	if l.cfg.Credentials == nil {
		return l.withTLS(l.connect, l.cfg.TLS)
	}
	c, err := l.cfg.Credentials(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("credentials: %w", err)
	}
	if err := qos.ValidateString("username", c.Username); err != nil {
		return nil, nil, fmt.Errorf("credentials: %w", err)
	}
	if len(c.Password) > math.MaxUint16 {
		return nil, nil, errors.New("credentials: password is longer than 65,535 bytes")
	}
	l.mu.Lock()
	l.secret = string(c.Password)
	l.mu.Unlock()
	p := *l.connect
	p.Username, p.UsernameFlag = c.Username, c.Username != ""
	p.Password, p.PasswordFlag = c.Password, len(c.Password) > 0
	if c.TLS == nil {
		c.TLS = l.cfg.TLS
	}
	return l.withTLS(&p, c.TLS)
}

// withTLS adds to the CONNECT the TLS configuration with what is in its files now.
func (l *Link) withTLS(p *paho.Connect, base *tls.Config) (*paho.Connect, *tls.Config, error) {
	cfg, err := l.cfg.TLSFiles.Apply(base)
	if err != nil {
		return nil, nil, fmt.Errorf("TLS files: %w", err)
	}
	l.mu.Lock()
	l.stale = expired(cfg)
	l.mu.Unlock()
	return p, cfg, nil
}

// refusedForGood tells whether connecting again would be refused again. Where
// credentials are asked for anew each time, and were good before, they are being
// changed: the server may know the new ones sooner than we do.
func (l *Link) refusedForGood(err error) bool {
	if !errors.Is(err, ErrRefused) {
		return false
	}
	changing := l.cfg.Credentials != nil && l.cfg.Accepted.Load()
	return !changing || !aboutCredentials(err)
}

// aboutCredentials tells whether the server refused who we are: bad user name or
// password, not authorized.
func aboutCredentials(err error) bool {
	var code byte
	var connack *ConnackError
	var disconnect *DisconnectError
	switch {
	case errors.As(err, &connack):
		code = connack.Code
	case errors.As(err, &disconnect):
		code = disconnect.Code
	}
	return code == 0x86 || code == 0x87
}
