package main

import "strings"

// knownOptions are the long names of all options of all commands, with whether they may
// stand in a file: those may that have an environment variable. also are their other
// names, and those of their variables.
func knownOptions() (known map[string]bool, also map[string]string) {
	known, also = make(map[string]bool), make(map[string]string)
	eachCommand(commands(&shell{}), nil, func(path []string, options []*option) {
		for _, o := range options {
			if o.hidden {
				continue
			}
			usable := o.env != "" && o.config == nil
			known[o.name] = known[o.name] || usable
			if !usable {
				continue
			}
			for _, name := range append(o.also, spelled(strings.TrimPrefix(o.env, "ONCEMQ_"))) {
				if first, there := also[name]; there && first != o.name {
					also[name] = "" // it means this here and that there
				} else if !there {
					also[name] = o.name
				}
			}
		}
	})
	delete(known, "profile") // it has a place of its own
	return known, also
}

// spelled is a name in the way in which keys are written.
func spelled(name string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimLeft(name, "-")), "_", "-")
}

// foreign are keys that other clients and brokers have for what is an option here.
func foreign(name string) string {
	switch name {
	case "hostname", "address":
		return "host"
	case "server", "servers", "brokers", "urls", "uri", "endpoint":
		return "url"
	case "login":
		return "username"
	case "pass", "passwd":
		return "pw"
	case "client", "clientid":
		return "client-id"
	case "ca-cert", "cacert", "ca-file":
		return "cafile"
	case "certfile", "cert-file":
		return "cert"
	case "keyfile", "key-file":
		return "key"
	case "topics":
		return "topic"
	case "database", "db", "dsn":
		return "store"
	case "version", "protocol":
		return "mqtt-version"
	}
	return ""
}

// called says what the key is called that somebody knows by another name, that of a
// letter, of an environment variable or of another program; empty if it is none.
func (f *configFile) called(name string) string {
	plain := strings.TrimPrefix(spelled(name), "oncemq-")
	switch {
	case plain == "tls" || plain == "ssl":
		return "TLS is asked for by mqtts:// in url"
	case f.known[plain] && plain != name:
		return "the key is called " + plain
	case f.also[name] != "": // a letter as it is
		return "the key is called " + f.also[name]
	case f.also[plain] != "":
		return "the key is called " + f.also[plain]
	case foreign(plain) != "":
		return "the key is called " + foreign(plain)
	}
	return ""
}
