package main

import (
	"errors"
	"fmt"
	"math"
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
	return p, checkUserProperty(p)
}

func checkUserProperty(p autopaho.UserProperty) error {
	if p.Name == "" {
		return errors.New("has an empty name; write NAME=VALUE")
	}
	if err := qos.ValidateString("name", p.Name); err != nil {
		return fmt.Errorf("the name %w", bare(err))
	}
	if err := qos.ValidateString("value", p.Value); err != nil {
		return fmt.Errorf("the value %w", bare(err))
	}
	return nil
}

// publishWords tells how many arguments belong to a -D: the packet, the
// property, and its value, which for a user property are two.
func publishWords(rest []string) int {
	n := 3
	if len(rest) > 1 && rest[1] == "user-property" {
		n = 4
	}
	return min(n, len(rest))
}

// publishProperty takes the words of -D and sets a property of a message.
func publishProperty(m *autopaho.Message) func(string) error {
	return func(s string) error {
		words := strings.Split(s, wordSeparator)
		if words[0] == "" || len(words) == 1 {
			return errors.New("needs a packet, a property and a value, such as -D publish content-type text/plain")
		}
		if words[0] != "publish" {
			return fmt.Errorf("properties of %s have options of their own; use -D publish", shown(words[0]))
		}
		return setPublishProperty(m, words[1], words[2:])
	}
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
