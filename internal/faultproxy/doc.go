// Package faultproxy stands between a client and a server and lets the network
// fail: connections are cut at a chosen byte, by RST or FIN, stall, crawl, or
// end in a black hole. It knows nothing of MQTT but where a packet ends: what is
// to look into packets, to record or to lose some, is an [Inspector].
//
//	p := faultproxy.Start(t, broker.Addr())
//	connect(p.URL())
//
//	p.CutAll(faultproxy.RST)                              // the link is gone
//	p.Refuse(true)                                        // and stays away
//	p.Refuse(false)
//	p.CutAfter(faultproxy.ToServer, 100, faultproxy.RST)  // within a packet
//	p.BlackHole(true)                                     // half-open
//
// Faults hold for all connections, present and future, unless their comment
// says otherwise; [Proxy.Clear] ends them all.
package faultproxy
