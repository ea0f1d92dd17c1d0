// Package chaos is the proof: processes on one store, between them a broker behind
// proxies, while a nemesis kills, stops, cuts, slows, fills and restarts them by a
// plan that comes from a seed. An observer, whom nothing touches, keeps a record
// (package history) and holds it against what is promised. docs/reliability.md
// says what was run, and what it found.
//
// Its tests are:
//
//	Chaos          all faults, one kind at a time and in pairs, on each store
//	ChaosFailover  the same on PostgreSQL and Redis, while they fail over
//	Failpoints     a process dies at each point of a message's way (tag failpoint)
//	Mutants        each broken rule is found (tag failpoint)
//	Recovery       how soon after the broker is back the first message leaves
//	Sigterm        ends in good order under load
package chaos
