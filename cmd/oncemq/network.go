package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/proxy"

	"github.com/oncemq/oncemq/autopaho"
)

// networkOptions tell by which way the broker is reached.
type networkOptions struct {
	bind    string
	proxy   *url.URL
	srv     bool
	nodelay bool
	header  http.Header
}

func (o *networkOptions) options() []*option {
	o.header = make(http.Header)
	return withEnv([]*option{
		{
			name: "bind-address", also: []string{"A"}, category: catConnection, set: name(&o.bind),
			usage: "`ADDRESS` of this machine, an IP address or a host name, from which to connect",
		},
		{
			name: "proxy", category: catConnection, set: proxyURL(&o.proxy), secret: inURL,
			usage: "`URL` of a SOCKS5 proxy to connect through, socks5h://[user[:password]@]host[:port]; it resolves the broker's name",
		},
		{
			name: "srv", also: []string{"S"}, category: catConnection, set: on(&o.srv),
			usage: "take the broker's host for a domain, and connect to where its SRV records lead: _mqtt._tcp, or _secure-mqtt._tcp " +
				"with TLS, whose certificate must be for the domain; the port means nothing then",
		},
		{
			name: "ws-header", also: []string{"wh"}, category: catConnection, many: true, set: header(o.header), secret: always,
			usage: "header of the WebSocket handshake, as `NAME:VALUE`; may be given several times",
		},
		{
			name: "nodelay", category: catConnection, set: on(&o.nodelay),
			usage: "taken for mosquitto_pub's sake: small packets are never held back",
		},
	})
}

// proxyURL takes the URL of a SOCKS5 proxy. Its errors do not show it.
func proxyURL(dst **url.URL) func(string) error {
	return func(s string) error {
		const form = "it looks like socks5h://host:1080 or socks5h://user:password@host:1080"
		u, err := url.Parse(s)
		switch {
		case err != nil:
			return errors.New("cannot be parsed; " + form + ", with special characters as %XX")
		case u.Scheme != "socks5h":
			return fmt.Errorf("scheme %s is not a choice; %s", shown(u.Scheme), form)
		case u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			return errors.New("is not a proxy; " + form)
		}
		*dst = u
		return nil
	}
}

// header takes a header of HTTP.
func header(dst http.Header) func(string) error {
	return func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return errors.New("is not a header; write NAME:VALUE") // and not what it is, which may be a token
		}
		dst.Add(name, value)
		return nil
	}
}

// apply completes a configuration by the way to its servers.
func (o *networkOptions) apply(ctx context.Context, cfg *autopaho.Config) error {
	if len(o.header) > 0 {
		cfg.Header = o.header
	}
	if o.bind == "" && o.proxy == nil && !o.srv {
		return nil
	}
	plain := &net.Dialer{KeepAlive: 15 * time.Second}
	bound := *plain
	if o.bind != "" {
		ips, err := net.DefaultResolver.LookupIPAddr(ctx, o.bind)
		switch {
		case err != nil && ctx.Err() != nil:
			return interrupted(ctx)
		case err != nil:
			return &usageError{option: "--bind-address", problem: err.Error()}
		}
		bound.LocalAddr = &net.TCPAddr{IP: ips[0].IP, Zone: ips[0].Zone}
	}
	way := bound.DialContext
	if o.proxy != nil {
		p, err := throughProxy(o.proxy, &bound)
		if err != nil {
			return &usageError{option: "--proxy", problem: err.Error()}
		}
		way = p
	}
	var domains map[string]string
	if o.srv {
		domains = services(cfg.Servers)
		if len(domains) == 0 {
			return &usageError{option: "--srv", problem: "needs a host name of a broker; ws, wss and unix have no SRV records"}
		}
	}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		switch service := domains[address]; {
		case network == "unix":
			return plain.DialContext(ctx, network, address)
		case service != "":
			domain, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return dialService(ctx, net.DefaultResolver.LookupSRV, way, service, domain)
		}
		return way(ctx, network, address)
	}
	return nil
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func throughProxy(u *url.URL, forward *net.Dialer) (dialFunc, error) {
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "1080")
	}
	d, err := proxy.SOCKS5("tcp", host, auth, forward)
	if err != nil {
		return nil, err
	}
	c, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("the SOCKS5 client knows no time-outs")
	}
	return c.DialContext, nil
}

// services are the SRV services by the address of the server that has them.
func services(servers []string) map[string]string {
	m := make(map[string]string)
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || net.ParseIP(u.Hostname()) != nil {
			continue
		}
		port := u.Port()
		switch u.Scheme {
		case "mqtt":
			if port == "" {
				port = "1883"
			}
			m[net.JoinHostPort(u.Hostname(), port)] = "mqtt"
		case "mqtts":
			if port == "" {
				port = "8883"
			}
			m[net.JoinHostPort(u.Hostname(), port)] = "secure-mqtt"
		}
	}
	return m
}

type lookupSRV = func(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)

// dialService connects to the first target of a service that takes the connection, in
// the order that its records ask for.
func dialService(ctx context.Context, lookup lookupSRV, way dialFunc, service, domain string) (net.Conn, error) {
	_, records, err := lookup(ctx, service, "tcp", domain)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, r := range records {
		if r.Target == "." { // RFC 2782: decidedly not available
			continue
		}
		nc, err := way(ctx, "tcp", net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port)))
		if err == nil {
			return nc, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("_%s._tcp.%s leads nowhere", service, domain)
	}
	return nil, errors.Join(errs...)
}
