// Package autopaho is the durable MQTT 5 client: what was accepted by
// [Client.Enqueue] reaches the broker, whatever dies at whatever moment, and
// what was processed by a handler of [Client.Subscribe] is not processed again.
//
// It keeps autopaho of paho.golang for connecting, reconnecting and keeping
// alive, and has an outbox, a session engine and an idempotent consumer of its
// own for the rest.
//
// # Publishing
//
// Enqueue stores messages and returns. The client's relay (or that of another
// process on the same store) sends them, in the order of their ordering keys,
// and deletes what the broker has acknowledged. There are two promises, and
// they are not the same: a message that is gone from the outbox was
// acknowledged by the broker; one that asked for a receipt and is gone was
// processed by a consumer. Only the second survives a broker that forgets what
// it has acknowledged.
//
// A message of QoS 2 reaches the broker exactly once for as long as the broker keeps
// the session of the lane ([Config.SessionExpiry]), also across a crash of this process
// and when another one takes the lane over. A broker that has lost the session gets
// what was in flight again, under the same message ID.
//
// # Subscribing
//
// A handler runs for each message; the broker gets its acknowledgement once the
// handler has succeeded and the mark that says so is durable, or the dead
// letter is. With a store and a group, replicas share the work, and a message
// that was sent twice is processed once within the window; one that is older than
// the window becomes a dead letter. A [BatchHandler] takes many messages at once,
// and with [InTx] or [BatchInTx] the handler's writes and the mark are one. A
// [Router] has a handler for each of many filters.
//
// # Requests
//
// [Client.Request] publishes a message and returns the response to it, matched by
// correlation data. Nothing of it is stored.
//
// # Lifecycle
//
// [New] returns a client that connects when there is something to do.
// [Client.Close] stops intake, finishes what is under way, sends the
// acknowledgements, gives leases back and disconnects, in that order. A client
// that crashes instead loses nothing that was accepted; its lanes pass to
// another process when their leases end.
package autopaho
