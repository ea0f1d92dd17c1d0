// Package failpoint lets a process die, fail or break a rule at a chosen place,
// for tests. Without the build tag failpoint its functions are empty and cost
// nothing; with it, environment variables say what is to happen:
//
//	ONCEMQ_FAILPOINT=relay-after-ack:3:exit      the third hit exits with 137
//	ONCEMQ_FAILPOINT=handler-middle:1:sleep=5s   the first hit stands still
//	ONCEMQ_MUTANT=ack-before-mark                the rule is broken throughout
//
// The actions are exit (status 137, as kill -9 has it, without a word or a
// clean-up), panic, sleep=DURATION and error. The n-th hit counts from 1, and a
// point has its effect once in a process. A name that is not known is refused:
// [Load] says so to a program that asks, and the first hit ends one that does
// not.
//
// A point stands where the state of a message is about to change, or has just
// changed: what a crash there must not do is what the tables of docs/reliability.md
// say. A mutant is a rule that is left out, to show that the checks would see it.
package failpoint
