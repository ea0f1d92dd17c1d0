// Package fault stands between a client and a server and lets the network
// fail: connections are cut at a chosen byte, by RST or FIN, stall, crawl, or
// end in a black hole. A [Proxy] knows nothing of MQTT but where a packet
// ends: what is to look into packets, to record or to lose some, is an [Inspector].
//
//	p := fault.Start(t, broker.Addr())
//	connect(p.URL())
//
//	p.CutAll(fault.RST)                        // the link is gone
//	p.Refuse(true)                             // and stays away
//	p.Refuse(false)
//	p.CutAfter(fault.ToServer, 100, fault.RST) // within a packet
//	p.BlackHole(true)                          // half-open
//
// Faults hold for all connections, present and future, unless their comment
// says otherwise; [Proxy.Clear] ends them all.
//
// In front of an MQTT 5 broker there is [MQTT], which can also lose the packet of one's
// choice, have the broker forget sessions, and play a [Scenario]: a course of faults
// from a seed.
//
//	m := fault.StartMQTT(t, broker.Addr())
//	connect(m.URL())
//	s, err := fault.Find("intermittent")
//	err = m.Play(ctx, s, fault.PlayOptions{Seed: 1, Scale: 0.1})
//
// It is for tests, and nothing for production: the proxy listens on loopback only, and
// lets everybody in who gets there.
package fault
