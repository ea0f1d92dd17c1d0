package main

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/oncemq/oncemq/autopaho"
)

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
