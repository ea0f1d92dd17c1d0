// Package fleet holds the test of the whole: relay and subscriber processes on
// one store, with a real broker, killed, stopped and continued at random, and a
// store that is restarted in the middle. What was enqueued must arrive, in the
// order of its key, and have its effect.
//
// Subscribers are processes of package worker, relays are the oncemq command.
package fleet
