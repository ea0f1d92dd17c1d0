package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/oncemq/oncemq/autopaho"
)

// passwordOptions are the ways to give a password. What one of them gives is
// never printed.
type passwordOptions struct {
	plain, variable, file string
	all                   []*option
}

func (o *passwordOptions) options() []*option {
	o.all = []*option{
		{
			name: "pw", also: []string{"P", "password"}, category: catConnection, env: "ONCEMQ_PASSWORD", secret: always, set: text(&o.plain),
			usage: "`PASSWORD` to log in with. On the command line it shows in the list of processes: better give " +
				"it in the environment or in a file",
		},
		{
			name: "password-env", category: catConnection, env: "ONCEMQ_PASSWORD_ENV", set: name(&o.variable),
			usage: "environment variable `NAME` that holds the password",
		},
		{
			name: "password-file", category: catConnection, env: "ONCEMQ_PASSWORD_FILE", set: name(&o.file),
			usage: "`FILE` whose first line is the password; it is read again for each connection, unless it is a FIFO",
		},
	}
	for _, p := range o.all { // one of the command line wins over all of the environment
		p.excludes = o.all
	}
	return o.all
}

// read returns the password, and whether one was given.
func (o *passwordOptions) read(ctx context.Context, sh *shell) (string, bool, error) {
	var given []string
	for _, p := range o.all {
		if p.given {
			given = append(given, "--"+p.name)
		}
	}
	switch {
	case len(given) == 0:
		return "", false, nil
	case len(given) > 1:
		return "", false, &usageError{option: given[0], problem: "cannot stand beside " + given[1] + "; give one password"}
	case o.variable != "":
		value, ok := sh.lookup(o.variable)
		if !ok {
			return "", false, &usageError{option: "--password-env", problem: fmt.Sprintf("the environment has no variable %s", shown(o.variable))}
		}
		return value, true, nil
	case o.file != "":
		password, err := readPassword(ctx, o.file)
		return password, err == nil, err
	}
	return o.plain, true, nil
}

// readPassword returns the first line of a file.
func readPassword(ctx context.Context, file string) (string, error) {
	data, err := readFile(ctx, "--password-file", file)
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSuffix(line, "\r"), err
}

// renewed has the password of a file read anew for every connection, so that one
// that was changed is used without a restart. It is nil for other passwords, and for a
// FIFO, which can be read once.
func (o *passwordOptions) renewed(username string) func(context.Context) (autopaho.Credentials, error) {
	if o.file == "" || !isRegular(o.file) {
		return nil
	}
	return func(ctx context.Context) (autopaho.Credentials, error) {
		password, err := readPassword(ctx, o.file)
		return autopaho.Credentials{Username: username, Password: []byte(password)}, err
	}
}

// warnPlain tells that a password leaves this machine unencrypted.
func warnPlain(sh *shell, servers []string, password string) {
	if password == "" {
		return
	}
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "mqtt" && u.Scheme != "ws" || isLoopback(u.Hostname()) {
			continue
		}
		sh.log.warn("the password goes to %s unencrypted; use mqtts:// or wss://", u.Host)
		return
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
