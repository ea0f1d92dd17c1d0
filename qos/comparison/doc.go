// Package comparison sends the same messages at QoS 0, 1 and 2 and counts what
// became of them: over a plain link, and over one that is cut again and again.
// It shows as well what the broker keeps for a subscriber that is away.
//
// # Words
//
// Every message that the client accepted is in the end one of three, so that
// sent = confirmed + pending + lost:
//
//   - confirmed: the subscriber has it and, at QoS 1 and 2, the broker has
//     acknowledged it. At QoS 0 there is no acknowledgement: what the subscriber
//     saw decides alone.
//   - pending: still in the outbox when the time was over; it would be sent on.
//   - lost: the client is through with it and the subscriber never saw it.
//
// A message that the subscriber saw more than once is counted among the
// duplicates as well, once for each copy beyond the first.
//
// Packets are counted on the wire between the publisher and the broker, by a
// proxy that both links pass.
package comparison
