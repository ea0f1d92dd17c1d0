package comparison

import "github.com/oncemq/oncemq/internal/brokertest"

// ownBroker is the broker of a run that names none.
//
// It is not the one of the demo: mochi-mqtt (v2.7.9) answers a PUBLISH of QoS 2
// that is sent again after a lost PUBREC with 0x91, which ends the exchange, so
// that the publisher has to begin another one and the subscriber gets the message
// twice. [MQTT-4.3.3-10] wants it recognised, and that is what is shown here.
type ownBroker = brokertest.Broker

func startBroker() (*ownBroker, error) { return brokertest.NewBroker(brokertest.Options{}) }
