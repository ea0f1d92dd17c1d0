package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// Config says what to look at. Without Servers no broker is looked at, without Store
// no store; one of them is needed.
type Config struct {
	// Broker is how a client would connect. Of several Servers the first that can be
	// connected to is examined. ClientID and Will are not used; SessionExpiry is
	// what is asked of the broker, and Relay.Window bounds the predicted rate.
	Broker autopaho.Config

	// IDPrefix begins the client IDs; random digits follow. Default
	// "oncemq-doctor-".
	IDPrefix string
	// TopicPrefix begins the topics; a random level follows. Default
	// "oncemq/doctor". The user needs the right to publish and to subscribe
	// below it.
	TopicPrefix string

	// Store is the URL of the store, Drivers those that may open it.
	Store   string
	Drivers []persist.Driver

	// Restart, if set, restarts the broker and returns when that is done. What it
	// has kept is looked at then; it may take up to a minute to come back. Nil: what
	// a restart does is not tried out.
	Restart func(context.Context) error

	// Quick leaves out what takes seconds of waiting: whether messages and sessions
	// end with their expiry.
	Quick bool

	// Patience is how long to wait for a packet that should come. Default 5 s.
	Patience time.Duration
}

// What may be left behind if the process dies is kept by the broker for this long, in
// seconds.
const keepFor = 600

func (c *Config) setDefaults() {
	if c.IDPrefix == "" {
		c.IDPrefix = "oncemq-doctor-"
	}
	if c.TopicPrefix == "" {
		c.TopicPrefix = "oncemq/doctor"
	}
	c.TopicPrefix = strings.TrimSuffix(c.TopicPrefix, "/")
	if c.Patience == 0 {
		c.Patience = 5 * time.Second
	}
	b := &c.Broker
	if b.ConnectTimeout == 0 {
		b.ConnectTimeout = 10 * time.Second
	}
	if b.KeepAlive == 0 {
		b.KeepAlive = 15 * time.Second
	}
	switch {
	case b.SessionExpiry == 0:
		b.SessionExpiry = 24 * time.Hour
	case b.SessionExpiry < 0:
		b.SessionExpiry = 0
	}
	if b.Relay.Window == 0 {
		b.Relay.Window = 1024
	}
}

// Validate lists everything that is wrong with the configuration, joined; each fault
// wraps [autopaho.ErrConfig] and names its field.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", autopaho.ErrConfig, field, fmt.Sprintf(format, args...)))
	}
	if len(c.Broker.Servers) == 0 && c.Store == "" {
		bad("Broker", "neither a broker nor a store is given")
	}
	if len(c.Broker.Servers) > 0 {
		errs = append(errs, c.Broker.Validate())
	}
	if c.Store != "" && len(c.Drivers) == 0 {
		bad("Drivers", "is empty; name the driver of the store")
	}
	if err := qos.ValidateTopic(c.TopicPrefix + "/0"); err != nil {
		bad("TopicPrefix", "%s", err)
	}
	if err := qos.ValidateString("value", c.IDPrefix); err != nil {
		bad("IDPrefix", "%s", err)
	}
	if c.Patience < 0 {
		bad("Patience", "%s is negative", c.Patience)
	}
	if c.Restart != nil && len(c.Broker.Servers) == 0 {
		bad("Restart", "there is no broker to restart")
	}
	return errors.Join(errs...)
}

// session is how a connection is made.
func (c *Config) session() session.Config {
	b := &c.Broker
	return session.Config{
		Username: b.Username, Password: b.Password, Credentials: b.Credentials,
		TLS: b.TLS, TLSFiles: b.TLSFiles, Header: b.Header, Dial: b.Dial,
		KeepAlive: b.KeepAlive, ConnectTimeout: b.ConnectTimeout,
		Engine: session.EngineConfig{ReceiveMaximum: 256, MaximumPacketSize: 1 << 20},
	}
}

// servers are the broker's URLs; user information in the first that has some serves
// if there is no user name.
func (c *Config) servers() ([]*url.URL, error) {
	var all []*url.URL
	for _, raw := range c.Broker.Servers {
		u, err := session.ParseServer(raw)
		if err != nil {
			return nil, err
		}
		if u.User != nil && c.Broker.Username == "" && len(c.Broker.Password) == 0 {
			c.Broker.Username = u.User.Username()
			if password, ok := u.User.Password(); ok {
				c.Broker.Password = []byte(password)
			}
		}
		all = append(all, u)
	}
	return all, nil
}

// driver is the driver of a URL.
func (c *Config) driver() (persist.Driver, *url.URL, error) {
	u, err := url.Parse(c.Store)
	if err != nil {
		// The text of a url.Error holds the URL, and with it the password.
		return nil, nil, fmt.Errorf("%w: store URL cannot be parsed", persist.ErrInvalid)
	}
	for _, d := range c.Drivers {
		if slices.Contains(d.Schemes(), u.Scheme) {
			return d, u, nil
		}
	}
	_, err = persist.Open(context.Background(), c.Store, c.Drivers...) // says which there are
	return nil, nil, err
}
