package main

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// envPrefix begins the names of the variables that tell a command of its message.
// It is not ONCEMQ_, whose variables are options: a command may be oncemq pub.
const envPrefix = "MQTT_"

// envUserProperty begins the variable of a user property; its name follows in
// capitals, with _ for what is no letter and no digit.
const envUserProperty = "USER_PROPERTY_"

// commandEnv is an environment without variables that look like a message's, since
// what a message does not have must not come from around; and without the secrets in
// ours: those of options that hold one, and those of some names.
func commandEnv(env []string, secrets ...string) []string {
	holds := make(map[string]func(string) bool)
	eachCommand(commands(&shell{}), nil, func(_ []string, options []*option) {
		for _, o := range options {
			if o.secret != nil {
				holds[o.env] = o.secret
			}
		}
	})
	for _, name := range secrets {
		holds[name] = always
	}
	var kept []string
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if secret := holds[name]; strings.HasPrefix(e, envPrefix) || secret != nil && secret(value) {
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// always is for options whose values are secrets.
func always(string) bool { return true }

// inURL tells whether there is a password in one of the URLs of a value; what is none
// may hold anything.
func inURL(value string) bool {
	for _, raw := range strings.Fields(value) {
		u, err := url.Parse(raw)
		if err != nil {
			return true
		}
		if _, given := u.User.Password(); given || u.Query().Has("password") {
			return true
		}
	}
	return false
}

// appendMessageEnv appends the variables of a message. All but those of single user
// properties are always there, empty if the message has no such thing.
func appendMessageEnv(env []string, m *autopaho.Received) []string {
	set := func(name, value string) {
		// A string of MQTT has no NUL [MQTT-1.5.4-2], and an environment cannot have one.
		env = append(env, envPrefix+name+"="+strings.ReplaceAll(value, "\x00", "\ufffd"))
	}
	flag := func(name string, on bool) {
		value := "0"
		if on {
			value = "1"
		}
		set(name, value)
	}
	p := &m.Properties
	set("TOPIC", m.Topic)
	set("QOS", strconv.Itoa(int(m.QoS)))
	flag("RETAIN", m.Retain)
	flag("DUP", m.Dup)
	set("MESSAGE_ID", m.ID)
	set("ORDERING_KEY", m.Key())
	set("GROUP", m.Group)
	set("ATTEMPT", strconv.Itoa(m.Attempt))
	set("EPOCH", strconv.FormatInt(m.Epoch, 10))
	set("PAYLOAD_LENGTH", strconv.Itoa(len(m.Payload)))
	flag("PAYLOAD_UTF8", p.UTF8)
	set("CONTENT_TYPE", p.ContentType)
	set("RESPONSE_TOPIC", p.ResponseTopic)
	text := ""
	if t, _ := textOrBase64(p.CorrelationData); t != nil && !strings.Contains(*t, "\x00") {
		text = *t
	}
	set("CORRELATION_DATA", text)
	set("CORRELATION_DATA_BASE64", base64.StdEncoding.EncodeToString(p.CorrelationData))
	expiry := ""
	if m.Expiry > 0 {
		expiry = strconv.FormatInt(int64(m.Expiry/time.Second), 10)
	}
	set("EXPIRY", expiry)
	properties, err := json.Marshal(userObject(p.User))
	if err != nil {
		properties = []byte("{}") // strings do not fail
	}
	set("USER_PROPERTIES", string(properties))
	seen := make(map[string]bool, len(p.User))
	for _, u := range p.User {
		name := envUserProperty + strings.Map(envLetter, u.Name)
		if !seen[name] { // of several the first; MQTT_USER_PROPERTIES has all
			seen[name] = true
			set(name, u.Value)
		}
	}
	return env
}

func envLetter(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z':
		return r - 'a' + 'A'
	case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return r
	}
	return '_'
}
