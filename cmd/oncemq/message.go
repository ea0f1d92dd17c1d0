package main

import (
	"fmt"
	"math"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// messageOptions describe the message, or what all messages of a run have in
// common.
type messageOptions struct {
	m          autopaho.Message
	connection *connectionOptions // for -D connect
	notBefore  time.Time
	level      *option
	topicGiven *option
}

const (
	catMessage  = "Message"
	catDelivery = "Delivery"
)

func (o *messageOptions) options() []*option {
	m := &o.m
	m.QoS = 1
	o.topicGiven = &option{
		name: "topic", also: []string{"t"}, category: catMessage, set: topic(&m.Topic),
		usage: "`TOPIC` to publish to",
	}
	o.level = &option{
		name: "qos", also: []string{"q"}, category: catMessage, set: level(&m.QoS), def: "1", choices: levels(),
		usage: "`LEVEL` 0, 1 or 2. Level 0 is sent once and then forgotten, whether it arrived or not",
	}
	return withEnv([]*option{
		o.topicGiven, o.level,
		{name: "retain", also: []string{"r"}, category: catMessage, set: on(&m.Retain), usage: "have the broker keep the message for its topic"},
		{
			name: "user-property", also: []string{"H", "up"}, category: catMessage, many: true, set: userProperty(&m.Properties.User),
			usage: "user property as `NAME=VALUE`; may be given several times",
		},
		{
			name: "content-type", also: []string{"ct"}, category: catMessage, set: utf8Text(&m.Properties.ContentType),
			usage: "what the payload is, a `TYPE` such as application/json",
		},
		{
			name: "response-topic", also: []string{"rt"}, category: catMessage, set: topic(&m.Properties.ResponseTopic),
			usage: "`TOPIC` for an answer",
		},
		{
			name: "correlation-data", also: []string{"cd"}, category: catMessage, set: data(&m.Properties.CorrelationData),
			usage: "`DATA` that an answer is to carry",
		},
		{name: "utf8", also: []string{"pf"}, category: catMessage, set: on(&m.Properties.UTF8), usage: "say that the payload is UTF-8 text"},
		{
			name: "property", also: []string{"D"}, category: catMessage, words: propertyWords, many: true,
			set: property(m, func() []*option { return o.connection.all }),
			usage: "MQTT property as mosquitto_pub takes it: -D publish `PROPERTY VALUE`, where the property is one of " +
				publishProperties + ", which has a name and a value; and those of -D connect and -D will that have options of their own",
		},
		{
			name: "expiry", also: []string{"e", "message-expiry"}, category: catDelivery, set: expiry(&m.Expiry), def: "for ever",
			usage: "`TIME` for which the message is worth delivering",
		},
		{name: "delay", category: catDelivery, set: span(&m.Delay), usage: "`TIME` to hold the message back after it was stored; shorter than its expiry"},
		{
			name: "not-before", category: catDelivery, set: moment(&o.notBefore),
			usage: "hold the message back until `MOMENT`, by this machine's clock: RFC 3339, such as 2030-01-31T08:00:00Z",
		},
		{
			name: "supersede", category: catDelivery, set: on(&m.Supersede),
			usage: "for a topic that tells a state: while it waits, the message gives way to the next one of its topic with " +
				"this option, and is counted as superseded",
		},
		{
			name: "receipt", category: catDelivery, set: on(&m.Receipt),
			usage: "have the subscriber answer once it has processed the message, and send it again until it does; " +
				"every subscriber must send receipts then (oncemq sub --receipts)",
		},
		{
			name: "message-id", category: catDelivery, set: messageID(&m.ID), def: "a new UUID",
			usage: "`ID` of the message, at most 128 bytes; while it is in the outbox, another one of that ID is not stored",
		},
		{
			name: "order-key", category: catDelivery, set: utf8Text(&m.OrderingKey), def: "the topic",
			usage: "`KEY` of the messages that keep their order",
		},
		{
			name: "attempts", category: catDelivery, set: number(&m.MaxAttempts, 1, math.MaxInt32), def: "30",
			usage: "`NUMBER` of refusals for now, such as a quota, after which the message fails",
		},
	}, "property", "message-id", "retain", "not-before")
}

// messageID takes a message ID.
func messageID(dst *string) func(string) error {
	return func(s string) error {
		if len(s) > persist.MaxMessageID {
			return errTooLong(len(s), persist.MaxMessageID)
		}
		return anyID(dst)(s)
	}
}

// anyID takes a message ID that may be longer than ours.
func anyID(dst *string) func(string) error {
	return func(s string) error {
		if err := name(dst)(s); err != nil {
			return err
		}
		return utf8Text(dst)(s)
	}
}

// template is the message without its payload. The topic may come from a URL, and be
// left open if the messages need not have the same.
func (o *messageOptions) template(urlTopic string, policies *qos.Policies, needTopic bool) (autopaho.Message, error) {
	m := o.m
	if m.Topic == "" && (urlTopic != "" || needTopic) {
		if urlTopic == "" {
			return m, &usageError{option: "--topic", problem: "is missing; name the topic to publish to, such as -t sensors/1"}
		}
		if err := topic(&m.Topic)(urlTopic); err != nil {
			return m, &usageError{option: "--url", problem: err.Error()}
		}
	}
	if m.Receipt {
		switch {
		case m.QoS == 0:
			return m, &usageError{option: "--receipt", problem: "cannot be promised at QoS 0; use -q 1 or -q 2"}
		case m.Properties.ResponseTopic != "" || len(m.Properties.CorrelationData) > 0:
			return m, &usageError{option: "--receipt", problem: "needs the response topic and the correlation data for itself; leave them out"}
		}
	}
	if err := o.contradiction(&m, policies.For(m.Topic)); err != nil {
		return m, err
	}
	if m.QoS == 0 {
		atMostOnce(m.Topic, policies)
	}
	return m, nil
}

// contradiction finds options that cannot stand beside each other.
func (o *messageOptions) contradiction(m *autopaho.Message, policy qos.Policy) error {
	expiry := m.Expiry
	if expiry == 0 {
		expiry = policy.Expiry
	}
	switch {
	case m.Supersede && m.Receipt:
		return &usageError{option: "--supersede", problem: "cannot stand beside --receipt: what is superseded gets none"}
	case m.Supersede && m.OrderingKey != "" && m.OrderingKey != m.Topic:
		return &usageError{option: "--supersede", problem: "keeps the newest message of a topic; it cannot stand beside --order-key"}
	case m.Delay > 0 && !o.notBefore.IsZero():
		return &usageError{option: "--not-before", problem: "cannot stand beside --delay; use one of them"}
	case expiry > 0 && m.Delay >= expiry:
		return &usageError{option: "--delay", problem: fmt.Sprintf("%s is not less than the expiry, %s; it would expire before it is sent", m.Delay, expiry)}
	case expiry > 0 && autopaho.DelayUntil(o.notBefore) >= expiry:
		return &usageError{option: "--not-before", problem: fmt.Sprintf("is not within the expiry, %s; it would expire before it is sent", expiry)}
	}
	return nil
}

// atMostOnce makes the policy of a topic QoS 0, unless it names a level itself:
// in a message, zero means that the policy decides.
func atMostOnce(topic string, policies *qos.Policies) {
	p := policies.For(topic)
	if p.Level != nil {
		return
	}
	level := qos.AtMostOnce
	p.Level, p.Receipt = &level, false
	if len(policies.Rules) == 0 {
		policies.Default = p
		return
	}
	// The topic is a filter that matches itself alone.
	policies.Rules = append([]qos.Rule{{Filter: topic, Policy: p}}, policies.Rules...)
}
