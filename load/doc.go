// Package load is what oncemq bench runs: publishers, subscribers and both together
// against a broker, and a store alone. It measures latency from when a message was due,
// not from when it could be sent, so that what waits behind a slow answer counts
// (coordinated omission), and counts what was lost and what came twice by numbers in
// the payloads.
//
// What it adds to what it measures is small: a worker has a histogram of its own, which
// is merged once a second; nothing is locked for a message.
package load
