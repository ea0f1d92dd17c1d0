package session

import (
	"encoding/binary"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/oncemq/oncemq/persist"
)

// appendConnect appends the CONNECT that p and the configuration ask for,
// section 3.1. paho's own leaves out most properties of the will: its expiry,
// its content type, where to answer. It is not sent.
func appendConnect(b []byte, p *paho.Connect, cfg *Config) []byte {
	flags := byte(0)
	if p.CleanStart {
		flags |= 1 << 1
	}
	var body []byte
	body = appendString(body, "MQTT")
	body = append(body, 5, 0) // protocol version; the flags follow
	flagsAt := len(body) - 1
	body = binary.BigEndian.AppendUint16(body, p.KeepAlive)
	body = appendProperties(body, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(append(b, propSessionExpiry), cfg.SessionExpiry)
		b = binary.BigEndian.AppendUint16(append(b, propReceiveMaximum), uint16(cfg.Engine.ReceiveMaximum))
		return binary.BigEndian.AppendUint32(append(b, propMaximumPacketSize), uint32(cfg.Engine.MaximumPacketSize))
	})
	body = appendString(body, p.ClientID)
	if w := p.WillMessage; w != nil {
		flags |= 1<<2 | w.QoS<<3
		if w.Retain {
			flags |= 1 << 5
		}
		body = appendProperties(body, func(b []byte) []byte { return appendWillProperties(b, p.WillProperties) })
		body = appendString(body, w.Topic)
		body = appendString(body, string(w.Payload))
	}
	if p.UsernameFlag {
		flags |= 1 << 7
		body = appendString(body, p.Username)
	}
	if p.PasswordFlag {
		flags |= 1 << 6
		body = appendString(body, string(p.Password))
	}
	body[flagsAt] = flags
	return append(appendVarint(append(b, typeConnect<<4), len(body)), body...)
}

// appendWillProperties appends the properties of section 3.1.3.2.
func appendWillProperties(b []byte, p *paho.WillProperties) []byte {
	if p == nil {
		return b
	}
	if p.WillDelayInterval != nil {
		b = binary.BigEndian.AppendUint32(append(b, propWillDelay), *p.WillDelayInterval)
	}
	if p.PayloadFormat != nil {
		b = append(b, propPayloadFormat, *p.PayloadFormat)
	}
	if p.MessageExpiry != nil {
		b = binary.BigEndian.AppendUint32(append(b, propMessageExpiry), *p.MessageExpiry)
	}
	if p.ContentType != "" {
		b = appendString(append(b, propContentType), p.ContentType)
	}
	if p.ResponseTopic != "" {
		b = appendString(append(b, propResponseTopic), p.ResponseTopic)
	}
	if len(p.CorrelationData) > 0 {
		b = appendString(append(b, propCorrelationData), string(p.CorrelationData))
	}
	for _, u := range p.User {
		b = appendString(append(b, propUser), u.Key)
		b = appendString(b, u.Value)
	}
	return b
}

// appendProperties appends properties with their length before them.
func appendProperties(b []byte, properties func([]byte) []byte) []byte {
	p := properties(nil)
	return append(appendVarint(b, len(p)), p...)
}

// Will turns a message into a will message; nil into none.
func Will(m *persist.Message, delay time.Duration) (*paho.WillMessage, *paho.WillProperties) {
	if m == nil {
		return nil, nil
	}
	seconds := uint32(delay / time.Second)
	p := &paho.WillProperties{
		WillDelayInterval: &seconds, ContentType: m.Properties.ContentType,
		ResponseTopic: m.Properties.ResponseTopic, CorrelationData: m.Properties.CorrelationData,
	}
	if m.Properties.UTF8 {
		one := byte(1)
		p.PayloadFormat = &one
	}
	if m.Expiry > 0 {
		expiry := uint32((m.Expiry + time.Second - 1) / time.Second) // zero would be at once
		p.MessageExpiry = &expiry
	}
	for _, u := range m.Properties.User {
		p.User.Add(u.Name, u.Value)
	}
	return &paho.WillMessage{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}, p
}
