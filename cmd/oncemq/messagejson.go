package main

import (
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/oncemq/oncemq/autopaho"
)

// messageObject is a message as JSON: mosquitto_sub's keys, and ours at the end.
type messageObject struct {
	Time       string            `json:"tst"`
	Topic      string            `json:"topic"`
	QoS        byte              `json:"qos"`
	Retain     int               `json:"retain"`
	PayloadLen int               `json:"payloadlen"`
	PacketID   uint16            `json:"mid,omitempty"`
	Properties *propertiesObject `json:"properties,omitempty"`
	// One of the two, the second for a payload that is not UTF-8.
	Payload       any     `json:"payload,omitempty"`
	PayloadBase64 *string `json:"payload_base64,omitempty"`
	ID            string  `json:"id,omitempty"`
	Dup           int     `json:"dup"`
	Group         string  `json:"group,omitempty"`
}

type propertiesObject struct {
	User                  userObject `json:"user-properties,omitempty"`
	ContentType           string     `json:"content-type,omitempty"`
	CorrelationData       *string    `json:"correlation-data,omitempty"`
	CorrelationDataBase64 *string    `json:"correlation-data_base64,omitempty"`
	ResponseTopic         string     `json:"response-topic,omitempty"`
	PayloadFormat         int        `json:"payload-format-indicator,omitempty"`
	Expiry                int64      `json:"message-expiry-interval,omitempty"`
}

// appendObject prints a message as a JSON object; the payload as it is, and not
// as a string, if it is JSON itself and was asked for.
func appendObject(b []byte, m *autopaho.Received, embed bool) []byte {
	o := messageObject{
		Time:  m.At.Format("2006-01-02T15:04:05.000000-0700"),
		Topic: m.Topic, QoS: m.QoS, PayloadLen: len(m.Payload), PacketID: m.PacketID,
		Properties: newPropertiesObject(m), ID: m.ID, Group: m.Group,
	}
	if m.Retain {
		o.Retain = 1
	}
	if m.Dup {
		o.Dup = 1
	}
	switch text, encoded := textOrBase64(m.Payload); {
	case embed:
		o.Payload = json.RawMessage(m.Payload)
	case text != nil:
		o.Payload = text
	default:
		o.PayloadBase64 = encoded
	}
	line, err := marshalLine(o)
	if err != nil {
		// Nothing in the object can fail: the raw payload was found valid.
		return b
	}
	return append(b, line[:len(line)-1]...)
}

func newPropertiesObject(m *autopaho.Received) *propertiesObject {
	p := &m.Properties
	o := propertiesObject{
		User: p.User, ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
		Expiry: int64(m.Expiry / time.Second),
	}
	if p.UTF8 {
		o.PayloadFormat = 1
	}
	if len(p.CorrelationData) > 0 {
		o.CorrelationData, o.CorrelationDataBase64 = textOrBase64(p.CorrelationData)
	}
	if len(o.User) == 0 && o.ContentType == "" && o.ResponseTopic == "" && o.Expiry == 0 && o.PayloadFormat == 0 &&
		len(p.CorrelationData) == 0 {
		return nil
	}
	return &o
}

// textOrBase64 is data as text if it is UTF-8, else in base64.
func textOrBase64(data []byte) (text, encoded *string) {
	if utf8.Valid(data) {
		s := string(data)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(data)
	return nil, &s
}

// userObject is user properties as an object, in their order. A name that occurs
// more than once, which an object cannot have, has an array of its values.
type userObject []autopaho.UserProperty

// MarshalJSON implements json.Marshaler.
func (u userObject) MarshalJSON() ([]byte, error) {
	values := make(map[string][]string, len(u))
	for _, p := range u {
		values[p.Name] = append(values[p.Name], p.Value)
	}
	b := []byte{'{'}
	for _, p := range u {
		list, first := values[p.Name]
		if !first {
			continue
		}
		delete(values, p.Name)
		if len(b) > 1 {
			b = append(b, ',')
		}
		name, err := json.Marshal(p.Name)
		if err != nil {
			return nil, err
		}
		var value []byte
		if len(list) == 1 {
			value, err = json.Marshal(list[0])
		} else {
			value, err = json.Marshal(list)
		}
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}
