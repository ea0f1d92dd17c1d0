// Package session is the seam with paho.golang: the session engine, the
// connection and the link that ties both to autopaho.
//
// autopaho connects and reconnects; paho reads, and carries SUBSCRIBE,
// UNSUBSCRIBE and DISCONNECT. Everything that decides whether a message is lost
// is ours:
//
//   - The [conn] is the net.Conn that paho is given. It splits what the server
//     sends: PUBLISH, PUBACK, PUBREC, PUBREL and PUBCOMP go straight to the
//     engine, without paho's decoding and its dozen allocations a packet; what
//     no server may send is refused; all else is passed on to paho. It buffers
//     reads, coalesces writes, sets a deadline on each, and refuses packets
//     over the size that we declared before it makes room for them. It sends
//     our CONNECT in place of paho's, which leaves out properties of the will.
//   - The [Engine] is paho's session.SessionManager. It owns packet
//     identifiers, the window, the order of sending, of sending again and of
//     acknowledging. One goroutine of its own writes; the reader does not,
//     but for the DISCONNECT that ends a connection, so that two sides that
//     both wait for the other to read cannot lock up.
//   - The [Link] is one MQTT session over its lifetime of many connections:
//     back-off, keep alive, what ends it for good, subscriptions.
//
// No other package imports paho.golang, but tests and benchmarks.
//
// # A crash
//
// What was handed to the engine and not completed is still pending in the outbox,
// and is sent again by the next process under the same message ID. If the owner
// keeps the packet state ([EngineConfig.Save] and Restored), an exchange of QoS 2
// goes on where it stood, as long as the server keeps the session: nothing that
// begins or ends one is on the wire before the state that says so is saved. A link
// that publishes at QoS 2 and has no packet state must begin with a clean start: the
// server may hold exchanges of the process before, and would take a new message
// under the packet identifier of one for a repetition [MQTT-4.3.3-10].
package session
