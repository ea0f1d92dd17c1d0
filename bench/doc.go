// Command bench measures oncemq beside its peers, on one machine, in one run.
//
//	go run . publish            # accepted to settled, by contender
//	go run . publish -qos 2
//	go run . publish -metrics   # with and without metrics and traces
//	go run . measuring          # what the measuring of oncemq bench costs
//	go run . measuring -plain   # the same without a store
//	go run . consume            # received to acknowledged
//	go run . enqueue            # commits a second
//	go run . backlog            # memory and speed of a relay with a long outbox
//	go run . outbox             # draining PostgreSQL, beside River
//	go run . ingest             # telemetry into a table, exactly once
//	go run . claims 10000 10000000
//	go run . size               # bytes a message and a key
//	go run . publish -only postgres
//
// It starts mosquitto, PostgreSQL and Redis by itself on loopback ports, or uses
// those of -broker, -postgres and -redis. Contenders take turns, round after round, and the medians and their
// ratios are printed: single figures of a shared machine mean little, ratios of
// neighbours in time do.
//
// The module is a separate one so that the peers stay out of oncemq's go.mod.
package main
