package main

// docsTrial is how a command of the documentation is run.
type docsTrial struct {
	// given is a script that runs before; with is the beginning of the script that ends
	// with the command.
	given, with string
	// endless commands are interrupted (Ctrl-C) when meanwhile, which is run again and
	// again, has succeeded and the output is as it should be.
	endless   bool
	meanwhile string
	// code and shows are the exit code, and a pattern for what is printed. What is
	// interrupted may end by the signal as well: it or the end of the input comes first.
	code        int
	interrupted bool
	shows       string
	// slow ones are run by make docs alone, and those that are left out by nobody.
	slow bool
	left string
}

const (
	// anID is that of the helps. It tells a time: who is to process it needs a window that
	// is long enough, and 90 years are the longest.
	anID = "01a223bf-7c4c-7cbb-af81-ef97c16ed347"

	// stored leaves a message in the outbox, turnedDown has 42 dead letters of it.
	stored     = "oncemq pub -t orders/1 -m x --no-wait --message-id " + anID
	turnedDown = "seq 42 | oncemq pub -t orders/refused -l 2>/dev/null || test $? = 4"
	// processed has the group billing process a message, givenUp has it give one up;
	// no session is left that would be a member of the group for another minute.
	processed = `oncemq sub -t orders/1 --group billing -x 0 --window 788400h -C 1 --debug 2>log &
until grep -q 'subscribed to' log; do sleep 0.02; done
oncemq pub -t orders/1 -m x --message-id ` + anID + `
wait`
	givenUp = `oncemq sub -t orders/1 --group billing -x 0 --exec 'exit 1' --attempts 1 --debug 2>log &
until grep -q 'subscribed to' log; do sleep 0.02; done
oncemq pub -t orders/1 -m x
until oncemq dead list --json | grep -q consumer; do sleep 0.02; done
kill %1
wait`
	inDB   = " --store postgres://app@db/app"
	inFile = " --store sqlite:///var/lib/app/outbox.db"

	inClone = "make docs runs it in a clone, beside this (TestDocsTests)"
)

// answering has a subscriber of the broker answer requests to a topic.
func answering(topic, command string) string {
	return `oncemq sub -t ` + topic + ` --debug --exec '` + command + ` | oncemq pub -t "$MQTT_RESPONSE_TOPIC" --correlation-data "$MQTT_CORRELATION_DATA" -s' >/dev/null 2>answers &
until grep -q 'subscribed to' answers; do sleep 0.02; done`
}

// arrives succeeds when feed, which is run again and again, has brought a message to a
// topic of a broker.
func arrives(where, feed string) string {
	return `oncemq sub ` + where + ` -C 1 -W 20 >/dev/null &
while kill -0 $! 2>/dev/null; do ` + feed + `; sleep 0.05; done
wait $!`
}

// relays is an endless relay, which empties a store.
func relays(store string) docsTrial {
	return docsTrial{endless: true, meanwhile: "oncemq pub -t meter/1 -m x --no-wait" + store + " && oncemq outbox stats --json" + store + " | grep -q '\"pending\":0'"}
}

// prints is an endless subscriber, which shows what a pub brings.
func prints(pub, shows string) docsTrial {
	return docsTrial{endless: true, meanwhile: "oncemq pub " + pub, shows: shows}
}

// docsTrials are all commands that documentation and helps have for a shell.
func docsTrials() map[string]docsTrial {
	unbuffered := `jq() { command jq --unbuffered "$@"; }`
	bill := docsTrial{
		given: "printf '#!/bin/sh\\necho did $1\\n' | tee bill order.sh >/dev/null; chmod +x bill order.sh", endless: true, meanwhile: "oncemq pub -t orders/1 -m x",
	}
	billing, ordering := bill, bill
	billing.shows, ordering.shows = `did [0-9a-f-]{36}\n`, `did orders/1\n`
	return map[string]docsTrial{
		// README
		"make test":                               {left: "is what this is a part of"},
		"go run ./cmd/oncemq demo":                {left: inClone},
		"oncemq pub -t meter/7 -m 43 --no-wait":   {},
		"oncemq relay --once":                     {given: stored},
		"oncemq sub -t 'meter/#' --group billing": prints("-t meter/7 -m 42", `(?m)^42$`),
		"oncemq pub -t meter/7 -m 42":             {},
		"tail -f app.log | oncemq pub -t logs/app -l": {
			given: "touch app.log", endless: true, interrupted: true,
			meanwhile: arrives("-t logs/app", "echo line >>app.log"),
		},
		"oncemq sub -t 'meter/#' --group billing --json": prints("-t meter/7 -m 42", `"payload":"42"`),
		"oncemq sub -t 'meter/#' --json | oncemq pub -h other.example --ndjson": {
			endless: true, interrupted: true, meanwhile: arrives("-h other.example -t meter/7", "oncemq pub -t meter/7 -m 42"),
		},
		`oncemq sub -t 'orders/#' --group billing --exec './bill "$MQTT_MESSAGE_ID"'`: billing,
		"ONCEMQ_STORE=postgres://app:secret@db/app oncemq relay -L mqtts://broker":    relays(inDB),

		// deploy, docs
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 oncemq pub -t meter/7 -m 42": {shows: `^oncemq pub: traces are not sent as they should be: [^\n]+ connection refused\n$`},
		"oncemq relay -L mqtts://broker.example --store postgres://app@db/app --listen 127.0.0.1:9464": {
			endless: true, meanwhile: "curl -sf http://127.0.0.1:9464/readyz && curl -sf http://127.0.0.1:9464/metrics | grep oncemq_outbox_pending",
		},
		"curl -s localhost:9464/readyz": {
			slow: true, // two seconds
			with: `printf 'listener 1884 127.0.0.1\nallow_anonymous true\nuser root\n' >m.conf; mosquitto -c m.conf >/dev/null 2>&1 & broker=$!
until oncemq pub -p 1884 -t a -m x 2>/dev/null; do sleep 0.02; done
oncemq relay -p 1884 --listen 127.0.0.1:9464 >/dev/null 2>&1 &
until curl -s localhost:9464/readyz | grep -q true; do sleep 0.02; done
kill -STOP $broker
until curl -s localhost:9464/readyz | grep -q PINGREQ; do sleep 0.02; done`,
			shows: `^\{"ready":false,"reasons":\["broker: session oncemq-[0-9a-f]{12}-0: no answer to PINGREQ within 1s"\]\}\n$`,
		},

		// bench
		"oncemq bench e2e -c 4 --rate 5000 --duration 30s":                                {slow: true},
		"oncemq bench pub --no-store -q 0 -L 100000 --json > before.json":                 {slow: true},
		"oncemq bench pub --no-store -q 0 -L 100000 --compare before.json --plot now.svg": {given: "oncemq bench pub --no-store -q 0 -L 100000 --json > before.json", slow: true},
		"oncemq bench e2e -c 4 --rate 5000 --duration 30s --plot now.svg":                 {slow: true},
		"oncemq bench pub --no-store -q 0 -L 100000 --json":                               {slow: true},
		"oncemq bench pub -c 4 --rate 5000 --duration 30s":                                {slow: true},
		"oncemq bench sub -h broker.example --duration 1m":                                {slow: true},
		"oncemq bench store --store postgres://app@db/bench -c 8":                         {slow: true},

		// chaos, demo, qos
		"oncemq chaos list":          {shows: `(?m)^cut `},
		"oncemq chaos run cut reset": {slow: true},
		"oncemq chaos run all --mosquitto --store postgres://app@localhost/app": {slow: true},
		"oncemq chaos run session-forgotten --sabotage receipts":                {slow: true, code: exitFailed, shows: "lost"},
		"oncemq demo":                     {slow: true},
		"oncemq demo --sabotage receipts": {slow: true, code: exitFailed},
		"oncemq demo --sabotage":          {slow: true, code: exitFailed},
		"oncemq qos":                      {slow: true},
		"oncemq qos -h broker.example --link plain --json": {slow: true},
		"oncemq qos --persistent-session":                  {slow: true},
		"oncemq qos --advise needs.yaml > policies.yaml": {
			given: "printf 'topics:\\n  - filter: sensors/+/temperature\\n    loss_tolerable: true\\n    duplicates_tolerable: true\\n    rate: 200\\n  - filter: alerts/#\\n' >needs.yaml",
		},

		// completion, man, version
		"source <(oncemq completion bash)":                                {},
		"oncemq completion bash > /etc/bash_completion.d/oncemq":          {},
		`oncemq completion zsh > "${fpath[1]}/_oncemq"`:                   {with: `fpath=(none "$PWD")`},
		"oncemq completion fish > ~/.config/fish/completions/oncemq.fish": {given: "mkdir -p ~/.config/fish/completions"},
		"oncemq man sub | man -l -":                                       {with: "command -v man >/dev/null || man() { cat; }", shows: "(?i)oncemq.sub"},
		"oncemq man --dir /usr/local/share/man/man1":                      {},
		"oncemq version --json":                                           {shows: `"version":`},

		// dead, dedup, outbox, store, status, doctor
		"oncemq dead list --side consumer --group billing":            {given: givenUp, shows: "orders/1"},
		"oncemq dead list --reason-code 0x87 --older-than 24h --json": {given: turnedDown},
		"oncemq dead show 42":                                                         {given: turnedDown, shows: "orders/refused"},
		"oncemq dead show 42 -o raw > payload":                                        {given: turnedDown},
		"oncemq dead retry --number 42 --set-property tenant=a --dry-run":             {given: turnedDown, shows: "^42 would be sent to orders/refused"},
		"oncemq dead retry --topic 'orders/#' --to-topic orders/second-try":           {given: turnedDown, shows: "42"},
		"oncemq dead purge --older-than 720h":                                         {given: turnedDown, shows: "0"},
		"oncemq dead purge --side outbox --reason-code 0x87":                          {given: turnedDown, shows: "42"},
		"oncemq dedup stats":                                                          {given: processed, shows: `processed keys +1\n`},
		"oncemq dedup stats --json":                                                   {given: processed, shows: `"completed":1`},
		"oncemq dedup forget --group billing " + anID:                                 {given: processed, shows: "1"},
		"oncemq outbox stats":                                                         {given: stored, shows: "1"},
		"oncemq outbox stats --json | jq .pending":                                    {given: stored, shows: `^1\n$`},
		"oncemq outbox stats --store postgres://app@db.example/app":                   {given: "oncemq store migrate" + inDB},
		"oncemq outbox list --limit 10":                                               {given: stored, shows: "orders/1"},
		"oncemq outbox list --state failed --json":                                    {given: turnedDown, shows: "orders/refused"},
		"oncemq outbox show " + anID:                                                  {given: stored, shows: "orders/1"},
		"oncemq outbox show " + anID + " -o raw > payload":                            {given: stored},
		"oncemq outbox retry --topic 'orders/#'":                                      {given: turnedDown, shows: "42"},
		"oncemq outbox retry --dry-run":                                               {given: turnedDown, shows: "42"},
		"oncemq outbox retry --reason-code 0x87 --topic 'orders/#'":                   {given: turnedDown, shows: "42"},
		"oncemq outbox purge --state delivered":                                       {given: stored, shows: "0"},
		"oncemq outbox purge --lane 0 --limit 1":                                      {given: stored, shows: "1"},
		"oncemq store status --store postgres://app@db.example/app":                   {given: "oncemq store migrate" + inDB},
		"oncemq store migrate --store postgres://owner@db.example/app":                {},
		"oncemq store check --json":                                                   {given: "oncemq store migrate"},
		"oncemq store check --json && echo good":                                      {given: "oncemq store migrate", shows: "good\n$"},
		"oncemq status":                                                               {given: stored, shows: "1"},
		"oncemq status --json | jq .store.pending":                                    {given: stored, shows: `^1\n$`},
		"oncemq status --store postgres://app@db/app --broker mqtts://broker --watch": {endless: true, shows: "broker"},
		"oncemq doctor -L mqtts://broker --store postgres://app@db/app":               {code: exitFailed, shows: `warn +store\.encryption`},
		"oncemq doctor --no-broker --store sqlite:///var/lib/app/outbox.db --json":    {code: exitFailed, shows: "it is in memory"},
		"oncemq doctor --no-store --restart-command 'systemctl restart mosquitto'":    {left: "restarts a service of the machine; go test ./cmd/oncemq -run Doctor restarts a broker in its way"},

		// pub
		"oncemq pub -t sensors/1 -m 21.5":                     {},
		"oncemq pub -h broker.example -t logs -l < app.log":   {given: "seq 3 >app.log", shows: "3"},
		"tail -F app.log | oncemq pub -t logs -l --timeout 0": {given: "touch app.log", endless: true, interrupted: true, meanwhile: arrives("-t logs", "echo line >>app.log")},
		"oncemq sub -t 'plant/#' --json | oncemq pub -h other.example --ndjson": {
			endless: true, interrupted: true, meanwhile: arrives("-h other.example -t plant/1", "oncemq pub -t plant/1 -m x"),
		},
		"oncemq pub -t orders -f order.json --content-type application/json --receipt": {
			given: "echo '{}' >order.json",
			with:  "oncemq sub -t orders --group g --receipts --debug >/dev/null 2>log & until grep -q 'subscribed to' log; do sleep 0.02; done",
		},
		"oncemq pub -t alarms -m fire -q 2 -H severity=high --expiry 1h": {},
		"oncemq pub -t door/1/state -m open -r --supersede":              {},
		"oncemq pub -L mqtts://broker.example/alarms -m fire --no-wait":  {},

		// relay
		"oncemq relay -h broker.example": relays(""),
		"oncemq relay --store sqlite:///var/lib/app/outbox.db -L mqtts://broker.example": relays(inFile),
		"oncemq relay --once --timeout 1m":                                               {given: stored},
		"oncemq relay -h broker.example --listen 127.0.0.1:9464":                         {endless: true, meanwhile: "curl -sf http://127.0.0.1:9464/readyz", shows: "9464/metrics"},

		// rr
		"oncemq rr -t time/get -n -W 5": {with: answering("time/get", "date"), shows: `\d\d:\d\d`, slow: true},
		"oncemq rr -t rpc/add -e rpc/answers -m '[1,2]' --content-type application/json": {with: answering("rpc/add", "jq add"), shows: `^3`},
		"oncemq rr -t fleet/ping -n -C 3 -W 2 -F '%t %p'": {
			with: answering("fleet/ping", "echo a") + "\n" + answering("fleet/ping", "echo b") + "\n" + answering("fleet/ping", "echo c"), shows: "[abc]", slow: true,
		},

		// sub
		"oncemq sub -t 'sensors/#' -v":                                prints("-t sensors/1 -m 21.5", `(?m)^sensors/1 21.5$`),
		"oncemq sub -h broker.example -t logs -C 10 -W 30":            {meanwhile: "seq 3 | oncemq pub -t logs -l", shows: `(?m)\A(\d\n){10}\z`},
		"oncemq sub -t orders --json | jq .payload":                   {with: unbuffered, endless: true, interrupted: true, meanwhile: "oncemq pub -t orders -m x", shows: `(?m)^"x"$`},
		"oncemq sub -t orders -i worker-1 --group workers --receipts": prints("-t orders -m x --receipt", `(?m)^x$`),
		"oncemq sub -t 'a/#' -F '@H:@M:@S %t %l bytes'":               prints("-t a/1 -m four", `(?m)^\d\d:\d\d:\d\d a/1 4 bytes$`),
		"oncemq sub -t 'a/#' -i archive -c --json --out /var/log/a.ndjson": {
			endless: true, meanwhile: `oncemq pub -t a/1 -m x && grep -q '"payload":"x"' /var/log/a.ndjson`,
		},
		`oncemq sub -t 'orders/#' -i worker-1 --group workers --exec './order.sh "$MQTT_TOPIC"'`: ordering,
	}
}
