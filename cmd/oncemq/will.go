package main

import (
	"context"
	"math"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/qos"
)

// willOptions are the message that the broker publishes if this client is gone
// without having said goodbye.
type willOptions struct {
	what    autopaho.Message
	payload string
	file    string
	delay   time.Duration
	all     []*option
}

func (o *willOptions) options() []*option {
	m := &o.what
	o.all = withEnv([]*option{
		{
			name: "will-topic", also: []string{"Wt"}, category: catWill, set: topic(&m.Topic),
			usage: "`TOPIC` of the will, the message that the broker publishes when this client is gone without a goodbye",
		},
		{name: "will-payload", also: []string{"will-message", "Wm"}, category: catWill, set: text(&o.payload), usage: "the will's `TEXT`"},
		{name: "will-file", category: catWill, set: name(&o.file), usage: "`FILE` that holds the will's payload"},
		{name: "will-qos", also: []string{"Wq"}, category: catWill, set: level(&m.QoS), def: "0", choices: levels(), usage: "the will's `LEVEL`"},
		{name: "will-retain", also: []string{"Wr"}, category: catWill, set: on(&m.Retain), usage: "have the broker retain the will"},
		{
			name: "will-delay", also: []string{"Wd"}, category: catWill, set: wholeSpan(&o.delay, 0, math.MaxUint32),
			usage: "`TIME` that the broker waits before; a reconnection within it cancels the will",
		},
		{
			name: "will-expiry", also: []string{"We"}, category: catWill, set: wholeSpan(&m.Expiry, 1, math.MaxUint32),
			usage: "`TIME` after which the will is worth nothing",
		},
		{
			name: "will-content-type", also: []string{"Wct"}, category: catWill,
			set: utf8Text(&m.Properties.ContentType), usage: "the will's content `TYPE`",
		},
		{
			name: "will-response-topic", also: []string{"Wrt"}, category: catWill,
			set: topic(&m.Properties.ResponseTopic), usage: "`TOPIC` for an answer to the will",
		},
		{
			name: "will-correlation-data", also: []string{"Wcd"}, category: catWill,
			set: data(&m.Properties.CorrelationData), usage: "`DATA` that an answer to the will is to carry",
		},
		{
			name: "will-utf8", also: []string{"Wpf"}, category: catWill, set: on(&m.Properties.UTF8),
			usage: "say that the will's payload is UTF-8",
		},
		{
			name: "will-user-property", also: []string{"Wup"}, category: catWill, many: true, set: userProperty(&m.Properties.User),
			usage: "user property of the will, as `NAME=VALUE`; may be given several times",
		},
	})
	return o.all
}

// message is the will; nil for none.
func (o *willOptions) message(ctx context.Context) (*autopaho.Message, time.Duration, error) {
	if o.what.Topic == "" {
		for _, other := range o.all {
			if other.near {
				return nil, 0, &usageError{option: "--" + other.name, problem: "needs --will-topic beside it"}
			}
		}
		return nil, 0, nil
	}
	m := o.what
	m.Payload = []byte(o.payload)
	if o.file != "" {
		if o.payload != "" {
			return nil, 0, &usageError{option: "--will-file", problem: "cannot stand beside --will-payload; give one"}
		}
		var err error
		if m.Payload, err = readFile(ctx, "--will-file", o.file); err != nil {
			return nil, 0, err
		}
	}
	if err := qos.ValidateBinary("will", m.Payload); err != nil {
		return nil, 0, &usageError{option: "--will-payload", problem: bare(err).Error()}
	}
	return &m, o.delay, nil
}
