package qos_test

import (
	"fmt"

	"github.com/oncemq/oncemq/qos"
)

func ExampleValidateTopic() {
	fmt.Println(qos.ValidateTopic("site/berlin/temperature"))
	fmt.Println(qos.ValidateTopic("site/+/temperature"))
	fmt.Println(qos.ValidateTopic("site/\xff"))
	// Output:
	// <nil>
	// topic: "site/+/temperature" has the wildcard + at byte 5; a message goes to one topic, without # and +
	// topic: "site/\xff" is not UTF-8 from byte 5 on; encode it as UTF-8
}

func ExampleValidateFilter() {
	fmt.Println(qos.ValidateFilter("$share/workers/site/+/#"))
	fmt.Println(qos.ValidateFilter("site/#/temperature"))
	fmt.Println(qos.ValidateFilter("$share/workers"))
	// Output:
	// <nil>
	// filter: "site/#/temperature" has # at byte 5; # stands alone, as the last level: # or a/#
	// filter: "$share/workers" has no filter after the share name; write $share/<name>/<filter>
}

func ExampleMatch() {
	fmt.Println(qos.Match("site/+/temperature", "site/berlin/temperature"))
	fmt.Println(qos.Match("site/#", "site"))
	fmt.Println(qos.Match("#", "$SYS/broker/uptime"))
	fmt.Println(qos.Match("$share/workers/site/#", "site/berlin"))
	// Output:
	// true
	// true
	// false
	// true
}

func ExampleJoinShared() {
	filter, err := qos.JoinShared("workers", "site/#")
	fmt.Println(filter, err)
	_, err = qos.JoinShared("work/ers", "site/#")
	fmt.Println(err)
	// Output:
	// $share/workers/site/# <nil>
	// group: "work/ers" has /, + or # in it; use other characters
}

func ExampleClassOf() {
	fmt.Println(qos.ClassOf(qos.PUBACK, 0x97))     // quota exceeded: send it again later
	fmt.Println(qos.ClassOf(qos.PUBACK, 0x87))     // not authorized: this message fails
	fmt.Println(qos.ClassOf(qos.CONNACK, 0x87))    // not authorized: tell the user
	fmt.Println(qos.ClassOf(qos.DISCONNECT, 0x95)) // packet too large: find the message
	fmt.Println(qos.ClassOf(qos.PUBREC, 0x10))     // accepted, and nobody listens
	// Output:
	// retry
	// permanent
	// stop
	// suspect
	// no subscribers
}

func ExampleDescribe() {
	fmt.Println(qos.Describe(0x97, "1000 messages a minute"))
	fmt.Println(qos.Describe(0x9B, ""))
	// Output:
	// quota exceeded (0x97): 1000 messages a minute
	// QoS not supported (0x9B)
}

func ExamplePolicies_For() {
	policies := qos.Policies{
		Rules: []qos.Rule{
			{Filter: "alarms/#", Policy: qos.Policy{Level: new(qos.ExactlyOnce), Receipt: true}},
			{Filter: "telemetry/#", Policy: qos.Policy{WhenFull: qos.DropOldest}},
		},
	}
	if err := policies.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	alarm := policies.For("alarms/fire")
	fmt.Println(*alarm.Level, alarm.Receipt, alarm.ReceiptTimeout, alarm.WhenFull)
	reading := policies.For("telemetry/7")
	fmt.Println(reading.Level == nil, reading.Receipt, reading.Attempts, reading.WhenFull)
	// Output:
	// 2 true 30s refuse
	// true false 30 drop-oldest
}

func ExampleParsePolicies() {
	policies, err := qos.ParsePolicies("policies.yaml", []byte(`
rules:
  - filter: alarms/#
    level: 2
    order: strict
    receipt: true
  - filter: telemetry/+/temperature
    expiry: 5m
    when_full: drop-oldest
default:
  level: 1
  backoff: {initial: 200ms, max: 10s}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(policies.For("alarms/fire").Order)
	fmt.Println(policies.For("telemetry/7/temperature").Expiry)
	fmt.Println(policies.For("news").Backoff.Max)
	// Output:
	// strict
	// 5m0s
	// 10s
}

// Every fault of a file comes at once, with its line.
func ExampleParsePolicies_faults() {
	_, err := qos.ParsePolicies("policies.yaml", []byte(`
rules:
  - filter: alarms/#
    recipt: true
    expiry: 30
  - filter: alarms/fire
    level: 3
`))
	fmt.Println(err)
	// Output:
	// policies.yaml:4: recipt: is not a known field; did you mean receipt?
	// policies.yaml:5: expiry: "30" has no unit; write one: 500ms, 30s, 5m, 24h
	// policies.yaml:6: filter: "alarms/fire" is never reached, since "alarms/#" in line 3 takes all its topics; put the narrower filter first
	// policies.yaml:7: level: "3" is not a QoS level; write 0, 1 or 2
}
