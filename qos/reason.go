package qos

import (
	"fmt"
	"strings"
	"unicode"
)

// packets is a set of packets, one bit for each number.
type packets uint16

const (
	inCONNACK    packets = 1 << CONNACK
	inPUBACK     packets = 1 << PUBACK
	inPUBREC     packets = 1 << PUBREC
	inPUBREL     packets = 1 << PUBREL
	inPUBCOMP    packets = 1 << PUBCOMP
	inSUBACK     packets = 1 << SUBACK
	inUNSUBACK   packets = 1 << UNSUBACK
	inDISCONNECT packets = 1 << DISCONNECT
	inAUTH       packets = 1 << AUTH

	inPublish   = inPUBACK | inPUBREC
	inRelease   = inPUBREL | inPUBCOMP
	inSubscribe = inSUBACK | inUNSUBACK
)

// reason is one row of the table of reason codes.
type reason struct {
	// name as in the specification; empty for a code that it does not define.
	name string
	// in are the packets that may carry the code.
	in packets
	// The class in each kind of packet; zero leaves it to the rule of ClassOf.
	// message is for PUBACK and PUBREC, request for SUBACK and UNSUBACK.
	connack, message, request, disconnect Class
}

// reasons are the reason codes of MQTT 5, section 2.4. ClassOf documents it,
// and a test compares the two.
//
//nolint:gochecknoglobals // a constant table: Go has no constant arrays.
var reasons = [256]reason{
	// code: name, packets, CONNACK, PUBACK and PUBREC, SUBACK and UNSUBACK, DISCONNECT
	0x00: {"Success", inCONNACK | inPublish | inRelease | inSubscribe | inDISCONNECT | inAUTH, Success, Success, Success, Retry},
	0x01: {"Granted QoS 1", inSUBACK, 0, 0, Success, 0},
	0x02: {"Granted QoS 2", inSUBACK, 0, 0, Success, 0},
	0x04: {"Disconnect with Will Message", inDISCONNECT, 0, 0, 0, Retry},
	0x10: {"No matching subscribers", inPublish, 0, NoSubscribers, 0, 0},
	0x11: {"No subscription existed", inUNSUBACK, 0, 0, Success, 0},
	0x18: {"Continue authentication", inAUTH, 0, 0, 0, 0},
	0x19: {"Re-authenticate", inAUTH, 0, 0, 0, 0},
	0x80: {"Unspecified error", inCONNACK | inPublish | inSubscribe | inDISCONNECT, Retry, Retry, Retry, Retry},
	0x81: {"Malformed Packet", inCONNACK | inDISCONNECT, Stop, 0, 0, Suspect},
	0x82: {"Protocol Error", inCONNACK | inDISCONNECT, Stop, 0, 0, Suspect},
	0x83: {"Implementation specific error", inCONNACK | inPublish | inSubscribe | inDISCONNECT, Retry, Retry, Retry, Retry},
	0x84: {"Unsupported Protocol Version", inCONNACK, Stop, 0, 0, Stop},
	0x85: {"Client Identifier not valid", inCONNACK, Stop, 0, 0, Stop},
	0x86: {"Bad User Name or Password", inCONNACK, Stop, 0, 0, Stop},
	0x87: {"Not authorized", inCONNACK | inPublish | inSubscribe | inDISCONNECT, Stop, Permanent, Permanent, Stop},
	0x88: {"Server unavailable", inCONNACK, Retry, 0, 0, 0},
	0x89: {"Server busy", inCONNACK | inDISCONNECT, Retry, 0, 0, Retry},
	0x8A: {"Banned", inCONNACK, Stop, 0, 0, Stop},
	0x8B: {"Server shutting down", inDISCONNECT, 0, 0, 0, Retry},
	0x8C: {"Bad authentication method", inCONNACK | inDISCONNECT, Stop, 0, 0, Stop},
	0x8D: {"Keep Alive timeout", inDISCONNECT, 0, 0, 0, Retry},
	0x8E: {"Session taken over", inDISCONNECT, Stop, 0, 0, Stop},
	0x8F: {"Topic Filter invalid", inSubscribe | inDISCONNECT, 0, 0, Permanent, Stop},
	0x90: {"Topic Name invalid", inCONNACK | inPublish | inDISCONNECT, Stop, Permanent, 0, Suspect},
	0x91: {"Packet Identifier in use", inPublish | inSubscribe, 0, Retry, Retry, 0},
	0x92: {"Packet Identifier not found", inRelease, 0, 0, 0, 0},
	0x93: {"Receive Maximum exceeded", inDISCONNECT, 0, 0, 0, Suspect},
	0x94: {"Topic Alias invalid", inDISCONNECT, 0, 0, 0, Suspect},
	0x95: {"Packet too large", inCONNACK | inDISCONNECT, Stop, Permanent, Permanent, Suspect},
	0x96: {"Message rate too high", inDISCONNECT, 0, 0, 0, Retry},
	0x97: {"Quota exceeded", inCONNACK | inPublish | inSUBACK | inDISCONNECT, Retry, Retry, Retry, Retry},
	0x98: {"Administrative action", inDISCONNECT, 0, 0, 0, Retry},
	0x99: {"Payload format invalid", inCONNACK | inPublish | inDISCONNECT, Stop, Permanent, 0, Suspect},
	0x9A: {"Retain not supported", inCONNACK | inDISCONNECT, Stop, Permanent, 0, Suspect},
	0x9B: {"QoS not supported", inCONNACK | inDISCONNECT, Stop, Permanent, 0, Suspect},
	0x9C: {"Use another server", inCONNACK | inDISCONNECT, Redirect, 0, 0, Redirect},
	0x9D: {"Server moved", inCONNACK | inDISCONNECT, Redirect, 0, 0, Redirect},
	0x9E: {"Shared Subscriptions not supported", inSUBACK | inDISCONNECT, 0, 0, Permanent, Stop},
	0x9F: {"Connection rate exceeded", inCONNACK | inDISCONNECT, Retry, 0, 0, Retry},
	0xA0: {"Maximum connect time", inDISCONNECT, 0, 0, 0, Retry},
	0xA1: {"Subscription Identifiers not supported", inSUBACK | inDISCONNECT, 0, 0, Permanent, Stop},
	0xA2: {"Wildcard Subscriptions not supported", inSUBACK | inDISCONNECT, 0, 0, Permanent, Stop},
}

// Allowed tells whether the specification allows the code in packet p (MQTT 5,
// section 2.4). A packet with another code is a protocol error of its sender;
// [ClassOf] has an answer for it all the same.
func Allowed(p Packet, code byte) bool {
	return p <= AUTH && reasons[code].in&(1<<p) != 0
}

// Name is the name of a reason code in the specification (section 2.4), or
// "Unknown reason code". 0x00 is "Success" in every packet, although the
// specification calls it "Normal disconnection" in a DISCONNECT and "Granted
// QoS 0" in a SUBACK.
func Name(code byte) string {
	if name := reasons[code].name; name != "" {
		return name
	}
	return "Unknown reason code"
}

// maxReasonString is how many bytes of a server's Reason String are shown.
const maxReasonString = 256

// Describe puts a reason code and the Reason String that came with it (empty if
// none did) into words for an error or a log:
//
//	quota exceeded (0x97): 1000 messages a minute
//
// The Reason String is the server's, and not trusted: what is not printable is
// left out, and what goes beyond 256 bytes.
func Describe(code byte, reasonString string) string {
	s := fmt.Sprintf("%s (0x%02X)", lower(Name(code)), code)
	if said := printable(reasonString); said != "" {
		s += ": " + said
	}
	return s
}

// lower writes a name in lower case, but for "QoS", which stays.
func lower(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "qos", "QoS")
}

// printable makes one line of s: white space becomes a space, control and
// format characters (terminal escapes, changes of the writing direction) and
// broken UTF-8 are removed, and the rest is cut to maxReasonString bytes.
func printable(s string) string {
	// A Reason String has up to 65,535 bytes. Four times the limit is enough
	// to look at: no character has more than four bytes.
	s = cut(s, 4*maxReasonString)
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) > maxReasonString {
		s = cut(s, maxReasonString) + "…"
	}
	return s
}
