package doctor

import (
	"net"
	"net/url"
	"strings"
)

// examineBrokerWay tells whether what goes to the broker can be read on its way.
func examineBrokerWay(r *Report, u *url.URL, secret bool) {
	const id = "broker.encryption"
	switch {
	case u.Scheme == "mqtts" || u.Scheme == "wss":
		r.add(id, OK, "the connection is encrypted", "")
	case u.Scheme == "unix" || local(u.Hostname()):
		r.add(id, OK, "the connection stays on this machine", "")
	case secret:
		r.add(id, Warn, "messages and the password go to "+u.Hostname()+" unencrypted", "use mqtts:// or wss://")
	default:
		r.add(id, Info, "messages go to "+u.Hostname()+" unencrypted", "use mqtts:// or wss://")
	}
}

// examineStoreWay is the same for a store's server.
func examineStoreWay(r *Report, u *url.URL) {
	const id = "store.encryption"
	away := ""
	for _, host := range strings.Split(u.Host, ",") {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !local(host) {
			away = host
		}
	}
	switch {
	case u.Scheme == "sqlite":
	case away == "":
		r.add(id, OK, "the connection stays on this machine", "")
	case strings.HasPrefix(u.Scheme, "rediss"):
		r.add(id, OK, "the connection is encrypted", "")
	case strings.HasPrefix(u.Scheme, "redis"):
		r.add(id, Warn, "messages and the password go to "+away+" unencrypted", "use rediss://")
	default:
		examineSSLMode(r, id, away, u.Query().Get("sslmode"))
	}
}

// examineSSLMode says what PostgreSQL's setting means.
func examineSSLMode(r *Report, id, host, mode string) {
	switch mode {
	case "verify-full":
		r.add(id, OK, "the connection is encrypted, and the server is verified", "")
	case "require", "verify-ca":
		r.add(id, Info, "sslmode="+mode+": the connection is encrypted, but another server could pass for "+host, "use sslmode=verify-full")
	case "disable":
		r.add(id, Warn, "sslmode=disable: messages and the password go to "+host+" unencrypted", "use sslmode=verify-full")
	default:
		r.add(id, Warn, "without sslmode the connection to "+host+" may be unencrypted", "use sslmode=verify-full")
	}
}

// local tells whether a host is this machine; an empty one, and a folder with a socket,
// is.
func local(host string) bool {
	host = strings.Trim(host, "[]")
	if host == "" || host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "%2F") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
