// Package qos holds the rules of delivery that need no connection and no
// store: quality of service levels, what a topic name and a topic filter may
// look like, what a reason code means for the message, the request or the
// connection that it answers, and the delivery policy of each topic.
//
// # Guarantee
//
// What [ValidateTopic], [ValidateFilter], [ValidateString] and
// [ValidateBinary] let pass can be encoded without loss and breaks no rule of
// MQTT 5 that a server must enforce, so that a server has no cause to drop the
// connection for it. [ClassOf] answers for each of the 256 codes in each packet
// that carries one: a code that a later specification adds has a class today.
//
// # Policies
//
// [Policies] is an ordered list of rules. The first rule whose filter matches a
// message's topic decides alone; a message that no rule matches has the default
// policy. Rules do not inherit from each other or from the default, so that one
// rule can be read without the rest of the file. [ParsePolicies] reads the list
// from YAML and reports every fault of the file at once, each with its line.
// [Advise] makes rules of what topics need, for those who would rather not choose a
// level themselves.
//
// # Lifecycle
//
// There is none: the package holds no state and starts no goroutine, and every
// function and method is safe for concurrent use, as long as nobody changes a
// Policies value meanwhile. Nothing is stored, so nothing is lost in a crash.
package qos
