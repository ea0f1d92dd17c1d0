// Package mochi is an MQTT 5 broker within the process (mochi-mqtt), for whoever
// wants to see one die: it can be killed and started again on its port, with
// nothing of the life before.
//
// It stands in for a real broker in what `oncemq demo` and `oncemq chaos` do with
// one: sessions, QoS 1 and 2, and shared subscriptions that heed the Receive
// Maximum of each member. What mochi itself (v2.7.9) does not do right there is done
// by a hook; each place says what it is.
package mochi
