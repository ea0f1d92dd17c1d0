package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/qos"
)

// topic takes a topic name.
func topic(dst *string) func(string) error {
	return func(s string) error {
		if err := qos.ValidateTopic(s); err != nil {
			return bare(err)
		}
		*dst = s
		return nil
	}
}

// utf8Text takes a string that MQTT can carry.
func utf8Text(dst *string) func(string) error {
	return func(s string) error {
		if err := qos.ValidateString("value", s); err != nil {
			return bare(err)
		}
		*dst = s
		return nil
	}
}

// data takes binary data.
func data(dst *[]byte) func(string) error {
	return func(s string) error {
		if err := qos.ValidateBinary("value", []byte(s)); err != nil {
			return bare(err)
		}
		*dst = []byte(s)
		return nil
	}
}

// expiry takes a Message Expiry Interval.
func expiry(dst *time.Duration) func(string) error {
	return func(s string) error {
		d, err := parseSpan(s)
		switch {
		case err != nil:
			return err
		case d < time.Millisecond || d > math.MaxUint32*time.Second:
			return fmt.Errorf("%s is out of range; use 1ms to 4294967295 seconds", s)
		}
		*dst = d
		return nil
	}
}

// userProperty appends a user property that is written as name=value or, as
// MQTTX has it, as "name: value".
func userProperty(dst *[]autopaho.UserProperty) func(string) error {
	return func(s string) error {
		p, err := parseUserProperty(s)
		if err != nil {
			return err
		}
		*dst = append(*dst, p)
		return nil
	}
}

// parseUserProperty reads name=value or name: value. The first = or ": " ends
// the name, whichever comes first, so that a value may hold both.
func parseUserProperty(s string) (autopaho.UserProperty, error) {
	equals, colon := strings.Index(s, "="), strings.Index(s, ": ")
	var p autopaho.UserProperty
	switch {
	case equals < 0 && colon < 0:
		return p, fmt.Errorf("%s has no value; write NAME=VALUE", shown(s))
	case colon >= 0 && (equals < 0 || colon < equals):
		p.Name, p.Value = s[:colon], s[colon+2:]
	default:
		p.Name, p.Value = s[:equals], s[equals+1:]
	}
	if p.Name == "" { // MQTT would take it, but here it is a slip
		return p, errors.New("has an empty name; write NAME=VALUE")
	}
	return p, checkUserProperty(p)
}

func checkUserProperty(p autopaho.UserProperty) error {
	if err := qos.ValidateString("name", p.Name); err != nil {
		return fmt.Errorf("the name %w", bare(err))
	}
	if err := qos.ValidateString("value", p.Value); err != nil {
		return fmt.Errorf("the value %w", bare(err))
	}
	return nil
}

// propertyWords tells how many arguments belong to a -D: the packet, the
// property, and its value, which for a user property are two.
func propertyWords(rest []string) int {
	n := 3
	if len(rest) > 1 && rest[1] == "user-property" {
		n = 4
	}
	return min(n, len(rest))
}

// property takes the words of -D and sets a property of a message, or one of CONNECT
// or the will, which are options as well. m is nil where no message is published.
func property(m *autopaho.Message, connection func() []*option) func(string) error {
	return func(s string) error {
		words := strings.Split(s, wordSeparator)
		if words[0] == "" || len(words) == 1 {
			return errors.New("needs a packet, a property and a value, such as -D publish content-type text/plain")
		}
		switch {
		case words[0] == "publish" && m != nil:
			return setPublishProperty(m, words[1], words[2:])
		case words[0] == "connect" || words[0] == "will":
			return setConnectProperty(connection(), words[0], words[1], words[2:])
		case words[0] == "publish":
			return errors.New("publish has no meaning here, where nothing is published")
		case words[0] == "subscribe" && words[1] == "subscription-identifier":
			return errors.New("subscription-identifier is chosen by this client itself; leave it out")
		}
		return fmt.Errorf("properties of %s are not set here; there are those of connect, will and publish", shown(words[0]))
	}
}

// connectProperties are the options that set properties of CONNECT and of the will.
func connectProperties(packet string) map[string]string {
	if packet == "connect" {
		return map[string]string{
			"session-expiry-interval": "session-expiry", "receive-maximum": "receive-maximum", "maximum-packet-size": "max-packet-size",
		}
	}
	return map[string]string{
		"will-delay-interval": "will-delay", "message-expiry-interval": "will-expiry", "content-type": "will-content-type",
		"response-topic": "will-response-topic", "correlation-data": "will-correlation-data",
		"payload-format-indicator": "will-utf8", "user-property": "will-user-property",
	}
}

func setConnectProperty(options []*option, packet, property string, values []string) error {
	known := connectProperties(packet)
	o := findOption(options, known[property])
	if o == nil {
		return fmt.Errorf("%s of %s is not set here; there are %s", shown(property), packet, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	want := 1
	if property == "user-property" {
		want = 2
	}
	if len(values) != want {
		return fmt.Errorf("%s needs %d value%s", property, want, plural(want))
	}
	if want == 2 && strings.ContainsAny(values[0], "=:") {
		return fmt.Errorf("the name %s of a user property of the will cannot have = or : here", shown(values[0]))
	}
	if err := o.set(strings.Join(values, "=")); err != nil {
		return fmt.Errorf("%s %w", property, err)
	}
	o.given = true
	return nil
}

// publishProperties names what -D publish knows.
const publishProperties = "content-type, correlation-data, message-expiry-interval, payload-format-indicator, response-topic and user-property"

func setPublishProperty(m *autopaho.Message, property string, values []string) error {
	want := 1
	if property == "user-property" {
		want = 2
	}
	p := &m.Properties
	var set func(string) error
	switch property {
	case "content-type":
		set = utf8Text(&p.ContentType)
	case "correlation-data":
		set = data(&p.CorrelationData)
	case "message-expiry-interval":
		set = expiry(&m.Expiry)
	case "payload-format-indicator":
		set = oneBit(&p.UTF8)
	case "response-topic":
		set = topic(&p.ResponseTopic)
	case "user-property":
	case "topic-alias":
		return errors.New("topic-alias belongs to a connection, which the message may outlive; leave it out")
	default:
		return fmt.Errorf("there is no property %s; there are %s", shown(property), publishProperties)
	}
	if len(values) != want {
		return fmt.Errorf("%s needs %d value%s", property, want, plural(want))
	}
	if property == "user-property" {
		u := autopaho.UserProperty{Name: values[0], Value: values[1]}
		if err := checkUserProperty(u); err != nil {
			return fmt.Errorf("user-property %w", err)
		}
		p.User = append(p.User, u)
		return nil
	}
	if err := set(values[0]); err != nil {
		return fmt.Errorf("%s %w", property, err)
	}
	return nil
}

// oneBit takes 0 or 1.
func oneBit(dst *bool) func(string) error {
	return func(s string) error {
		if s != "0" && s != "1" {
			return fmt.Errorf("%s is neither 0 nor 1", shown(s))
		}
		*dst = s == "1"
		return nil
	}
}

// bare is the problem of a field error without the field's name, which the
// option's takes the place of.
func bare(err error) error {
	var field *qos.FieldError
	if errors.As(err, &field) {
		return errors.New(field.Problem)
	}
	return err
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
