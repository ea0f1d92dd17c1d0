package session

import (
	"fmt"
	"math"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// Limits is what the server's CONNACK allows, section 3.2.2.3.
type Limits struct {
	ReceiveMaximum    int
	MaximumQoS        byte
	RetainAvailable   bool
	MaximumPacketSize int
	SharedAvailable   bool
	WildcardAvailable bool
	SubscriptionIDs   bool          // subscription identifiers are available
	TopicAliasMaximum int           // zero if the server takes no topic alias
	ServerKeepAlive   time.Duration // zero if the server set none
	AssignedClientID  string
	// SessionExpiry is how long the server keeps the session.
	SessionExpiry time.Duration
}

// unlimited are the limits of a CONNACK without properties.
func unlimited() Limits {
	return Limits{
		ReceiveMaximum: math.MaxUint16, MaximumQoS: 2, RetainAvailable: true,
		MaximumPacketSize: maxRemaining + 5, SharedAvailable: true, WildcardAvailable: true,
		SubscriptionIDs: true,
	}
}

// refuse tells whether the server could never take the message, and the reason
// code and words it would have used. Checked before sending, since a server
// that is sent such a packet ends the connection.
func (l *Limits) refuse(o *Outgoing, size int) (code byte, reason string) {
	m := o.Message
	switch {
	case m.QoS > l.MaximumQoS: // [MQTT-3.2.2-11]
		return 0x9B, fmt.Sprintf("QoS %d is above the server's Maximum QoS of %d", m.QoS, l.MaximumQoS)
	case m.Retain && !l.RetainAvailable: // [MQTT-3.2.2-14]
		return 0x9A, "the server does not keep retained messages"
	case size > l.MaximumPacketSize: // [MQTT-3.2.2-15]
		return 0x95, fmt.Sprintf("packet of %d bytes is over the server's Maximum Packet Size of %d",
			size, l.MaximumPacketSize)
	}
	return 0, ""
}

// limitsOf reads the limits of a connection; what CONNACK does not name is
// CONNECT's, or unlimited.
func limitsOf(connect *packets.Connect, connack *packets.Connack) Limits {
	l := unlimited()
	if connect.Properties != nil && connect.Properties.SessionExpiryInterval != nil {
		l.SessionExpiry = time.Duration(*connect.Properties.SessionExpiryInterval) * time.Second
	}
	p := connack.Properties
	if p == nil {
		return l
	}
	if p.ReceiveMaximum != nil && *p.ReceiveMaximum > 0 {
		l.ReceiveMaximum = int(*p.ReceiveMaximum)
	}
	if p.MaximumQOS != nil {
		l.MaximumQoS = *p.MaximumQOS
	}
	if p.RetainAvailable != nil {
		l.RetainAvailable = *p.RetainAvailable != 0
	}
	if p.MaximumPacketSize != nil && *p.MaximumPacketSize > 0 {
		l.MaximumPacketSize = int(*p.MaximumPacketSize)
	}
	if p.SharedSubAvailable != nil {
		l.SharedAvailable = *p.SharedSubAvailable != 0
	}
	if p.WildcardSubAvailable != nil {
		l.WildcardAvailable = *p.WildcardSubAvailable != 0
	}
	if p.SubIDAvailable != nil {
		l.SubscriptionIDs = *p.SubIDAvailable != 0
	}
	if p.TopicAliasMaximum != nil {
		l.TopicAliasMaximum = int(*p.TopicAliasMaximum)
	}
	if p.ServerKeepAlive != nil {
		l.ServerKeepAlive = time.Duration(*p.ServerKeepAlive) * time.Second
	}
	if p.SessionExpiryInterval != nil {
		l.SessionExpiry = time.Duration(*p.SessionExpiryInterval) * time.Second
	}
	l.AssignedClientID = p.AssignedClientID
	return l
}
