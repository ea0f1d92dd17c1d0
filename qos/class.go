package qos

import "strconv"

// Packet is a control packet that carries a reason code, with its number in the
// specification (MQTT 5, section 2.1.2).
type Packet byte

// The packets that carry a reason code.
const (
	CONNACK    Packet = 2
	PUBACK     Packet = 4
	PUBREC     Packet = 5
	PUBREL     Packet = 6
	PUBCOMP    Packet = 7
	SUBACK     Packet = 9
	UNSUBACK   Packet = 11
	DISCONNECT Packet = 14
	AUTH       Packet = 15
)

// String is the packet's name.
func (p Packet) String() string {
	switch p {
	case CONNACK:
		return "CONNACK"
	case PUBACK:
		return "PUBACK"
	case PUBREC:
		return "PUBREC"
	case PUBREL:
		return "PUBREL"
	case PUBCOMP:
		return "PUBCOMP"
	case SUBACK:
		return "SUBACK"
	case UNSUBACK:
		return "UNSUBACK"
	case DISCONNECT:
		return "DISCONNECT"
	case AUTH:
		return "AUTH"
	}
	return "packet " + strconv.Itoa(int(p))
}

// Class is what a reason code means for who has to act on it. The zero value is
// none of them.
type Class byte

// The classes of reason codes.
const (
	// Success: it was done as asked.
	Success Class = iota + 1
	// NoSubscribers: the server accepted the message and nobody subscribes to
	// its topic. The outbox to broker promise is kept; whether anybody will
	// ever have the message only a receipt can tell.
	NoSubscribers
	// Retry: refused for now. Back off, then send the message under a new
	// packet identifier (the refusal ended the exchange of the old one
	// [MQTT-4.4.0-2]), make the request again, or connect again. The attempts
	// of a message are bounded by its [Policy], those of a connection are not.
	Retry
	// Permanent: this message, or this request, can never succeed as it is. It
	// fails at the first attempt; others go on.
	Permanent
	// Stop: connecting again would end the same way, or would fight another
	// client for the client identifier. Somebody has to change the credentials,
	// the client identifier, the will or a subscription first; tell the user at
	// once.
	Stop
	// Suspect: the server dropped the connection for something that was sent on
	// it. Connect again with backoff; if it happens again with the same
	// messages in flight, send them one at a time to find the one at fault.
	Suspect
	// Redirect: the server asks for another server to be used. The Server
	// Reference that may come with it is not to be trusted: follow it only to
	// a server that the user has named.
	Redirect
)

// String is the class in lower case.
func (c Class) String() string {
	switch c {
	case Success:
		return "success"
	case NoSubscribers:
		return "no subscribers"
	case Retry:
		return "retry"
	case Permanent:
		return "permanent"
	case Stop:
		return "stop"
	case Suspect:
		return "suspect"
	case Redirect:
		return "redirect"
	}
	return "unknown"
}

// ClassOf is the class of a reason code received in packet p. Every code has
// one in every packet:
//
//	code  name                                    CONNACK   PUBACK/PUBREC   (UN)SUBACK   DISCONNECT
//	0x00  Success                                 success   success         success      retry
//	0x01  Granted QoS 1                           -         -               success      -
//	0x02  Granted QoS 2                           -         -               success      -
//	0x04  Disconnect with Will Message            -         -               -            retry
//	0x10  No matching subscribers                 -         no subscribers  -            -
//	0x11  No subscription existed                 -         -               success      -
//	0x18  Continue authentication                 -         -               -            -
//	0x19  Re-authenticate                         -         -               -            -
//	0x80  Unspecified error                       retry     retry           retry        retry
//	0x81  Malformed Packet                        stop      -               -            suspect
//	0x82  Protocol Error                          stop      -               -            suspect
//	0x83  Implementation specific error           retry     retry           retry        retry
//	0x84  Unsupported Protocol Version            stop      -               -            (stop)
//	0x85  Client Identifier not valid             stop      -               -            (stop)
//	0x86  Bad User Name or Password               stop      -               -            (stop)
//	0x87  Not authorized                          stop      permanent       permanent    stop
//	0x88  Server unavailable                      retry     -               -            -
//	0x89  Server busy                             retry     -               -            retry
//	0x8A  Banned                                  stop      -               -            (stop)
//	0x8B  Server shutting down                    -         -               -            retry
//	0x8C  Bad authentication method               stop      -               -            stop
//	0x8D  Keep Alive timeout                      -         -               -            retry
//	0x8E  Session taken over                      (stop)    -               -            stop
//	0x8F  Topic Filter invalid                    -         -               permanent    stop
//	0x90  Topic Name invalid                      stop      permanent       -            suspect
//	0x91  Packet Identifier in use                -         retry           retry        -
//	0x92  Packet Identifier not found             -         -               -            -
//	0x93  Receive Maximum exceeded                -         -               -            suspect
//	0x94  Topic Alias invalid                     -         -               -            suspect
//	0x95  Packet too large                        stop      (permanent)     (permanent)  suspect
//	0x96  Message rate too high                   -         -               -            retry
//	0x97  Quota exceeded                          retry     retry           retry        retry
//	0x98  Administrative action                   -         -               -            retry
//	0x99  Payload format invalid                  stop      permanent       -            suspect
//	0x9A  Retain not supported                    stop      (permanent)     -            suspect
//	0x9B  QoS not supported                       stop      (permanent)     -            suspect
//	0x9C  Use another server                      redirect  -               -            redirect
//	0x9D  Server moved                            redirect  -               -            redirect
//	0x9E  Shared Subscriptions not supported      -         -               permanent    stop
//	0x9F  Connection rate exceeded                retry     -               -            retry
//	0xA0  Maximum connect time                    -         -               -            retry
//	0xA1  Subscription Identifiers not supported  -         -               permanent    stop
//	0xA2  Wildcard Subscriptions not supported    -         -               permanent    stop
//
// In brackets: the specification does not allow the code there, yet its meaning
// leaves one answer. Everywhere else, and for codes that the specification does
// not define, the rule is that of section 2.4: below 0x80 is success. From 0x80
// on it is retry, which loses nothing. Three packets have their own rule:
//
//   - DISCONNECT below 0x80 is retry: the connection has ended, and nobody on
//     this side asked for that.
//   - PUBREL and PUBCOMP are success whatever the code. The receiver took the
//     message with its PUBREC, so sending it again would double it; 0x92 says
//     that the receiver has forgotten the exchange, which ends it as well, and
//     is worth a line in the log.
//   - CONNACK is never suspect: no message had been sent, and the same CONNECT
//     would be refused again.
//
// Of a DISCONNECT with 0x87 nobody can tell whether the credentials were
// withdrawn or the server ends connections over one topic that it does not
// allow. It is stop, so that the user sees it. 0x8F, 0x9E, 0xA1 and 0xA2 are
// stop there, since the subscription that caused them would be made again.
func ClassOf(p Packet, code byte) Class {
	r := &reasons[code]
	var c Class
	switch p {
	case CONNACK:
		c = r.connack
	case DISCONNECT:
		if code < 0x80 {
			return Retry
		}
		c = r.disconnect
	case PUBACK, PUBREC:
		c = r.message
	case SUBACK, UNSUBACK:
		c = r.request
	case PUBREL, PUBCOMP:
		return Success
	case AUTH:
	}
	switch {
	case c != 0:
		return c
	case code < 0x80:
		return Success
	}
	return Retry
}
