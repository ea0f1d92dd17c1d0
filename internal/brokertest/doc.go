// Package brokertest plays the broker for tests of MQTT 5 clients. It has its
// own codec, which shares no code with the client, so that a fault of one
// cannot hide in both.
//
// # A script, packet by packet
//
// [Listen] gives a port, [Listener.Accept] one connection of the client. The
// test reads and writes each packet itself; what does not come as expected
// fails the test with what came instead, and no wait is without a deadline.
//
//	l := brokertest.Listen(t)
//	client := connect(l.URL())       // the client under test
//
//	c := l.Accept(t.Context())
//	c.Handshake(brokertest.ReceiveMaximum(3))
//	p := c.ExpectPublish(brokertest.HasTopic("a/b"), brokertest.HasDUP(false))
//	c.Reset()                        // RST: the PUBACK never comes
//
//	c = l.Accept(t.Context())
//	c.Resume()                       // session present
//	c.ExpectPublish(brokertest.HasID(p.PacketID), brokertest.HasDUP(true))
//	c.SendPuback(p.PacketID, 0)
//	t.Log(l.Log())                   // everything that was sent and received
//
// The Expect helpers answer a PINGREQ by themselves and go on waiting, since a
// client may ping at any time ([Conn.ManualPing] ends that). They may be called
// from the test's goroutine or within [Listener.Script], which runs a script
// beside a client whose Connect blocks. [Conn.ReadPacket] gives each packet and
// its error, whatever it is; [Packet].Raw is what was on the wire. [Conn.Send],
// [Frame] and [Conn.SendRaw] send what no well-behaved server would.
//
// # A broker that runs by itself, with faults
//
// [NewBroker] starts a small broker for end-to-end runs. It needs no test: a
// plain program can use it.
//
//	b, err := brokertest.NewBroker(brokertest.Options{
//		Seed:           1,
//		DropEvery:      brokertest.Range{Min: 50, Max: 300},
//		ForgetSessions: true,
//	})
//	defer b.Close()
//	run(b.URL())
//	b.FirstArrivals("lines")  // what was published, in order, without repeats
//	b.Violations()            // what the clients did that MQTT forbids
package brokertest
