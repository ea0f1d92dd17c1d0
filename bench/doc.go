// Command bench measures oncemq beside its peers, on one machine, in one run.
//
//	go run . publish            # accepted to settled, by contender
//	go run . publish -qos 2
//	go run . consume            # received to acknowledged
//	go run . enqueue            # commits a second
//	go run . backlog            # memory and speed of a relay with a long outbox
//
// It starts mosquitto by itself on a loopback port, or uses the broker of
// -broker. Contenders take turns, round after round, and the medians and their
// ratios are printed: single figures of a shared machine mean little, ratios of
// neighbours in time do.
//
// The module is a separate one so that the peers stay out of oncemq's go.mod.
package main
