package doctor

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/oncemq/oncemq/internal/session"
)

// defaultMaxPayload is autopaho.Config.MaxPayload's default.
const defaultMaxPayload = 1 << 20

// examineLimits says what the limits of CONNACK mean (section 3.2.2.3).
func examineLimits(r *Report, l *session.Limits, cfg *Config) {
	window := min(l.ReceiveMaximum, cfg.Broker.Relay.Window)
	text := fmt.Sprintf("%d messages in flight", l.ReceiveMaximum)
	if l.ReceiveMaximum == math.MaxUint16 {
		text = "no limit to messages in flight"
	}
	severity, remedy := OK, ""
	if window < 100 {
		severity = Info
		text += ", which bounds the rate, at QoS 2 above all"
		if l.ReceiveMaximum < 100 {
			remedy = "raise the broker's receive maximum (mosquitto: max_inflight_messages)"
		}
	}
	r.add("broker.receive-maximum", severity, text, remedy)

	switch {
	case l.MaximumPacketSize >= math.MaxInt32/8:
		r.add("broker.maximum-packet-size", OK, "no limit to packets", "")
	case l.MaximumPacketSize < defaultMaxPayload:
		r.add("broker.maximum-packet-size", Info,
			fmt.Sprintf("packets of %d bytes at most; what is larger becomes a dead letter", l.MaximumPacketSize),
			"let the application bound its messages, or raise the broker's maximum packet size")
	default:
		r.add("broker.maximum-packet-size", OK, fmt.Sprintf("packets of %d bytes at most", l.MaximumPacketSize), "")
	}

	switch l.MaximumQoS {
	case 0:
		r.add("broker.maximum-qos", Bad, "QoS 0 only: the broker acknowledges nothing", "let the broker take QoS 1 and 2",
			promiseEnqueue, promiseEffect, promiseExactly, promiseAway, promiseGroup)
	case 1:
		r.add("broker.maximum-qos", Bad, "QoS 1 at most: messages of QoS 2 become dead letters",
			"let the broker take QoS 2, or use QoS 1 and groups, which process a message once", promiseExactly)
	default:
		r.add("broker.maximum-qos", OK, "QoS 2", "", promiseEnqueue, promiseEffect, promiseExactly)
	}

	available(r, "broker.retain", l.RetainAvailable, Info, "retained messages", "messages to be retained become dead letters")
	available(r, "broker.wildcard", l.WildcardAvailable, Info, "wildcards in topic filters", "name every topic when subscribing")
	available(r, "broker.shared", l.SharedAvailable, Warn, "shared subscriptions",
		"set SubscribeConfig.Unshared, so that every replica hears every message and one of them processes it", promiseGroup)
	available(r, "broker.subscription-ids", l.SubscriptionIDs, Info, "subscription identifiers",
		"messages that match several subscriptions of a client are told apart by their topics")

	keepAlive := cfg.Broker.KeepAlive
	text = fmt.Sprintf("keep alive of %s, as asked for", span(keepAlive))
	if l.ServerKeepAlive > 0 {
		keepAlive = l.ServerKeepAlive
		text = fmt.Sprintf("keep alive of %s, set by the broker", span(keepAlive))
	}
	severity = OK
	if keepAlive > time.Minute {
		severity = Info
		text += fmt.Sprintf("; a dead connection is noticed within %s", span(2*keepAlive))
	}
	r.add("broker.keep-alive", severity, text, "")

	asked := cfg.Broker.SessionExpiry
	switch {
	case l.SessionExpiry >= asked:
		r.add("broker.session-expiry", OK, "sessions are kept for "+span(asked)+", as asked for", "", promiseAway)
	case l.SessionExpiry == 0:
		r.add("broker.session-expiry", Bad, "no session is kept when its connection ends", "let the broker keep sessions",
			promiseAway, promiseExactly)
	default:
		r.add("broker.session-expiry", Warn,
			fmt.Sprintf("sessions are kept for %s, not for %s as asked for: who is away longer loses messages", span(l.SessionExpiry), span(asked)),
			"let the broker keep sessions for longer", promiseAway)
	}

	text = "no topic aliases; oncemq sends none"
	if l.TopicAliasMaximum > 0 {
		text = fmt.Sprintf("%d topic aliases; oncemq sends none", l.TopicAliasMaximum)
	}
	r.add("broker.topic-alias", OK, text, "")
}

// span is a duration without zeros at its end.
func span(d time.Duration) string {
	if d >= math.MaxUint32*time.Second { // section 3.1.2.11.2
		return "ever"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func available(r *Report, id string, yes bool, without Severity, what, instead string, promises ...string) {
	if yes {
		r.add(id, OK, what, "", promises...)
		return
	}
	r.add(id, without, "no "+what, instead, promises...)
}
