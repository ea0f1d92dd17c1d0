package autopaho

import (
	"strings"
	"unicode"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// wantsReceipt tells whether a message asks for a receipt on a topic that
// receipts may go to.
func (s *Subscription) wantsReceipt(it *item) bool {
	p := &it.received.Properties
	if p.ResponseTopic == "" || len(p.CorrelationData) == 0 {
		return false
	}
	if qos.ValidateTopic(p.ResponseTopic) != nil {
		return false // with wildcards, for one [MQTT-3.3.2-14]: it would cost us the connection
	}
	for _, f := range s.cfg.ReceiptTopics {
		if qos.Match(f, p.ResponseTopic) {
			return true
		}
	}
	return false
}

// sendReceipt answers the publisher, and acknowledges to the broker once that
// answer has arrived there: if this process dies before, the message comes
// again, is a duplicate, and is answered again. So receipts need no store, and
// their number is bounded by the Receive Maximum.
func (s *Subscription) sendReceipt(it *item, o dedup.Outcome) {
	status, reason := receiptProcessed, ""
	if o == dedup.OutcomeDead || o == dedup.OutcomeDuplicateDead {
		status = receiptDead
		if it.dead != nil {
			reason = it.dead.Reason
		}
	}
	in := &it.received.Properties
	m := &persist.Message{
		Topic: in.ResponseTopic, QoS: 1,
		Properties: persist.Properties{
			CorrelationData: in.CorrelationData,
			User:            []UserProperty{{Name: propertyReceipt, Value: status}},
		},
	}
	if reason = bounded(plain(reason)); reason != "" {
		m.Properties.User = append(m.Properties.User, UserProperty{Name: propertyReason, Value: reason})
	}
	if keys := s.client.cfg.ReceiptKeys; len(keys) > 0 {
		mac := receiptMAC(keys[0], string(in.CorrelationData), status, reason)
		m.Properties.User = append(m.Properties.User, UserProperty{Name: propertyMAC, Value: string(mac)})
	}
	s.client.mu.Lock()
	pub := s.client.publisher
	s.client.mu.Unlock()
	pub.enqueue(m, func(c session.Completion) {
		switch stateOf(c.Class) {
		case persist.StateDelivered:
			s.client.status.counters.receiptsSent.Add(1)
		default:
			// The publisher will send again, and its outbox will show it.
			s.client.cfg.Logger.WarnContext(s.ctx, "receipt was refused", "topic", m.Topic, "reason", reasonText(&c))
		}
		s.over(it, o)
	})
}

// plain makes of a handler's error, which may be a panic with its stack, what a
// UTF-8 string of MQTT may be: brokers end the connection over a line break in it
// [MQTT-1.5.4-1], section 1.5.4.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
}

// bounded cuts a reason to what a user property may well hold.
func bounded(s string) string {
	const most = 1024
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not within a character
		cut--
	}
	return s[:cut]
}
