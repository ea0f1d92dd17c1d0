package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// Nobody listens on this port; what fails before it connects never finds out.
const nobody = "mqtt://127.0.0.1:1"

// TestBadInput: one line that names the option and what would be right, the
// right exit code, nothing on stdout, nothing stored.
func TestBadInput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70_000)
	for name, test := range map[string]struct {
		args   []string
		env    []string
		stdin  string
		code   int
		stderr string // begins with
	}{
		"no command":                 {nil, nil, "", 2, "oncemq: no command is given; try oncemq demo, or oncemq --help (see oncemq --help)"},
		"unknown command":            {[]string{"pbu"}, nil, "", 2, `oncemq: there is no command "pbu"; did you mean pub? (see oncemq --help)`},
		"store without a command":    {[]string{"store"}, nil, "", 2, "oncemq store: a command is missing; there are migrate, status and check"},
		"store in memory":            {[]string{"store", "status", "--store", "memory:"}, nil, "", 2, "oncemq store status: --store: a store in memory ends with the process"},
		"store of no scheme":         {[]string{"store", "status", "--store", "mysql://h/d"}, nil, "", 2, "oncemq store status: --store: invalid argument: store scheme "},
		"outbox without a command":   {[]string{"outbox"}, nil, "", 2, "oncemq outbox: a command is missing; there are stats, list, show, retry and purge"},
		"unknown option":             {[]string{"pub", "--tpoic", "a"}, nil, "", 2, "oncemq pub: --tpoic: is not an option; did you mean --topic? (see oncemq pub --help)"},
		"unknown letter":             {[]string{"pub", "-Z"}, nil, "", 2, "oncemq pub: -Z: is not an option"},
		"option without its value":   {[]string{"pub", "-t"}, nil, "", 2, "oncemq pub: --topic: needs a value: TOPIC"},
		"password left out":          {[]string{"pub", "-u", "user", "-P"}, nil, "", 2, "oncemq pub: --pw: needs a value: PASSWORD"},
		"a word of its own":          {[]string{"pub", "-t", "a", "hello"}, nil, "", 2, `oncemq pub: unexpected argument "hello"; every value belongs to an option`},
		"QoS 3":                      {[]string{"pub", "-t", "a", "-m", "x", "-q", "3"}, nil, "", 2, "oncemq pub: --qos: 3 is not a level; use 0, 1 or 2 (see oncemq pub --help)"},
		"QoS 3 of sub":               {[]string{"sub", "-t", "a", "--qos", "3"}, nil, "", 2, "oncemq sub: --qos: 3 is not a level; use 0, 1 or 2"},
		"QoS in the environment":     {[]string{"pub", "-t", "a", "-m", "x"}, []string{"ONCEMQ_QOS=7"}, "", 2, "oncemq pub: ONCEMQ_QOS: 7 is not a level; use 0, 1 or 2"},
		"no topic":                   {[]string{"pub", "-m", "x"}, nil, "", 2, "oncemq pub: --topic: is missing; name the topic to publish to"},
		"no topic of sub":            {[]string{"sub"}, nil, "", 2, "oncemq sub: --topic: is missing; name the topics to subscribe to"},
		"empty topic":                {[]string{"pub", "-t", "", "-m", "x"}, nil, "", 2, "oncemq pub: --topic: is empty"},
		"wildcard":                   {[]string{"pub", "-t", "a/#", "-m", "x"}, nil, "", 2, `oncemq pub: --topic: "a/#" has the wildcard #`},
		"wildcard in a URL":          {[]string{"pub", "-L", nobody + "/a/+/b", "-m", "x"}, nil, "", 2, `oncemq pub: --url: "a/+/b" has the wildcard +`},
		"topic of invalid UTF-8":     {[]string{"pub", "-t", "a\xff", "-m", "x"}, nil, "", 2, "oncemq pub: --topic: "},
		"topic with NUL":             {[]string{"pub", "-t", "a\x00b", "-m", "x"}, nil, "", 2, "oncemq pub: --topic: "},
		"topic too long":             {[]string{"pub", "-t", long, "-m", "x"}, nil, "", 2, `oncemq pub: --topic: "` + long[:64] + `"… (70000 bytes) has 70000 bytes; MQTT carries at most 65,535`},
		"topic without a space":      {[]string{"pub", "-t" + long, "-m", "x"}, nil, "", 2, "oncemq pub: -t" + long[:58] + "…: is not an option"},
		"long topic with wildcard":   {[]string{"pub", "-t", "#" + long[:65_000], "-m", "x"}, nil, "", 2, `oncemq pub: --topic: "#` + long[:63] + `"… (65001 bytes) has the wildcard #`},
		"long filter":                {[]string{"sub", "-t", long}, nil, "", 2, `oncemq sub: --topic: "` + long[:64] + `"… (70000 bytes)`},
		"filter":                     {[]string{"sub", "-t", "a/#/b"}, nil, "", 2, "oncemq sub: --topic: "},
		"shared filter and group":    {[]string{"sub", "-t", "$share/g/a", "--group", "h"}, nil, "", 2, `oncemq sub: --topic: "$share/g/a" is shared already`},
		"two payloads":               {[]string{"pub", "-t", "a", "-m", "x", "-l"}, nil, "", 2, "oncemq pub: --message: cannot stand beside --stdin-line; a message has one payload"},
		"three payloads":             {[]string{"pub", "-t", "a", "-n", "-s", "-f", "x"}, nil, "", 2, "oncemq pub: --file: cannot stand beside --stdin-file and --null-message"},
		"no payload":                 {[]string{"pub", "-t", "a"}, nil, "", 2, "oncemq pub: no payload is given; use one of -m TEXT, -f FILE, -l, --ndjson, -s, -n"},
		"negative time-out":          {[]string{"pub", "-t", "a", "-m", "x", "--timeout", "-5"}, nil, "", 2, "oncemq pub: --timeout: -5 is negative; use zero or more"},
		"negative delay":             {[]string{"pub", "-t", "a", "-m", "x", "--delay", "-1s"}, nil, "", 2, "oncemq pub: --delay: -1s is negative"},
		"delay beyond expiry":        {[]string{"pub", "-t", "a", "-m", "x", "--delay", "1h", "--expiry", "30m"}, nil, "", 2, "oncemq pub: --delay: 1h0m0s is not less than the expiry, 30m0s"},
		"moment beyond expiry":       {[]string{"pub", "-t", "a", "-m", "x", "--not-before", "2999-01-01T00:00:00Z", "--expiry", "30m"}, nil, "", 2, "oncemq pub: --not-before: is not within the expiry, 30m0s"},
		"no moment":                  {[]string{"pub", "-t", "a", "-m", "x", "--not-before", "tomorrow"}, nil, "", 2, `oncemq pub: --not-before: "tomorrow" is not a moment; write one such as 2030-01-31T08:00:00Z`},
		"moment without a zone":      {[]string{"pub", "-t", "a", "-m", "x", "--not-before", "2030-01-31T08:00:00"}, nil, "", 2, "oncemq pub: --not-before: "},
		"moment and delay":           {[]string{"pub", "-t", "a", "-m", "x", "--not-before", "2999-01-01T00:00:00Z", "--delay", "1s"}, nil, "", 2, "oncemq pub: --not-before: cannot stand beside --delay"},
		"superseded receipt":         {[]string{"pub", "-t", "a", "-m", "x", "--supersede", "--receipt"}, nil, "", 2, "oncemq pub: --supersede: cannot stand beside --receipt"},
		"superseded by other topics": {[]string{"pub", "-t", "a", "-m", "x", "--supersede", "--order-key", "k"}, nil, "", 2, "oncemq pub: --supersede: keeps the newest message of a topic"},
		"bytes of a store":           {[]string{"pub", "-t", "a", "-m", "x", "--store", "sqlite:x?max_bytes=many"}, nil, "", 2, "oncemq pub: --store: invalid argument: sqlite URL: option max_bytes is \"many\", must be a number of bytes such as 1000000 or 64MiB, 0 for no limit"},
		"age of a store":             {[]string{"pub", "-t", "a", "-m", "x", "--store", "memory:?max_age=1"}, nil, "", 2, "oncemq pub: --store: open memory: invalid argument: option max_age=\"1\" must be a duration from 1ms, such as 24h"},
		"negative expiry":            {[]string{"pub", "-t", "a", "-m", "x", "--expiry", "-1h"}, nil, "", 2, "oncemq pub: --expiry: -1h is negative"},
		"no duration":                {[]string{"sub", "-t", "a", "-W", "soon"}, nil, "", 2, `oncemq sub: --wait: "soon" is not a duration; write seconds`},
		"keep alive of zero":         {[]string{"sub", "-t", "a", "-k", "0"}, nil, "", 2, "oncemq sub: --keepalive: 0 is out of range; use whole seconds, 1 to 65535"},
		"property too long":          {[]string{"pub", "-t", "a", "-m", "x", "-H", "a=" + long}, nil, "", 2, "oncemq pub: --user-property: the value "},
		"property of invalid UTF-8":  {[]string{"pub", "-t", "a", "-m", "x", "-H", "a=\xff"}, nil, "", 2, "oncemq pub: --user-property: the value "},
		"property without a value":   {[]string{"pub", "-t", "a", "-m", "x", "-H", "a"}, nil, "", 2, `oncemq pub: --user-property: "a" has no value; write NAME=VALUE`},
		"unknown property":           {[]string{"pub", "-t", "a", "-m", "x", "-D", "publish", "colour", "red"}, nil, "", 2, `oncemq pub: --property: there is no property "colour"; there are content-type`},
		"property cut short":         {[]string{"pub", "-t", "a", "-m", "x", "-D", "publish", "user-property", "a"}, nil, "", 2, "oncemq pub: --property: user-property needs 2 values"},
		"property of CONNECT":        {[]string{"pub", "-t", "a", "-m", "x", "-D", "connect", "receive-maximum", "0"}, nil, "", 2, `oncemq pub: --property: receive-maximum 0 is out of range; use 1 to 65535`},
		"unknown one of CONNECT":     {[]string{"pub", "-t", "a", "-m", "x", "-D", "connect", "topic-alias", "1"}, nil, "", 2, `oncemq pub: --property: "topic-alias" of connect is not set here; there are maximum-packet-size, receive-maximum, session-expiry-interval`},
		"property of SUBSCRIBE":      {[]string{"pub", "-t", "a", "-m", "x", "-D", "subscribe", "user-property", "a", "b"}, nil, "", 2, `oncemq pub: --property: properties of "subscribe" are not set here`},
		"payload too long":           {[]string{"pub", "-t", "a", "-m", strings.Repeat("x", maxPayload+1)}, nil, "", 1, "oncemq pub: --message: 1048577 bytes are over the limit of 1048576"},
		"stdin too long":             {[]string{"pub", "-t", "a", "-s"}, nil, strings.Repeat("x", maxPayload+1), 1, "oncemq pub: standard input: more than 1048576 bytes, which is the limit of a payload"},
		"no such file":               {[]string{"pub", "-t", "a", "-f", "/nowhere/x"}, nil, "", 1, "oncemq pub: --file: open /nowhere/x: no such file or directory"},
		"message ID too long":        {[]string{"pub", "-t", "a", "-m", "x", "--message-id", strings.Repeat("x", 129)}, nil, "", 2, "oncemq pub: --message-id: 129 bytes are over the limit of 128"},
		"message ID of many":         {[]string{"pub", "-t", "a", "-l", "--message-id", "x"}, nil, "", 2, "oncemq pub: --message-id: names one message"},
		"receipt at QoS 0":           {[]string{"pub", "-t", "a", "-m", "x", "-q", "0", "--receipt"}, nil, "", 2, "oncemq pub: --receipt: cannot be promised at QoS 0"},
		"receipt and response":       {[]string{"pub", "-t", "a", "-m", "x", "--receipt", "--response-topic", "r"}, nil, "", 2, "oncemq pub: --receipt: needs the response topic"},
		"other protocol":             {[]string{"pub", "-t", "a", "-m", "x", "-V", "mqttv311"}, nil, "", 2, `oncemq pub: --mqtt-version: "mqttv311" is not spoken here, since only MQTT 5 has what is promised; use mqttv5`},
		"broker's scheme":            {[]string{"pub", "-L", "http://h", "-t", "a", "-m", "x"}, nil, "", 2, `oncemq pub: --url: broker scheme "http" is unknown; it is one of mqtt, mqtts, ws, wss, unix`},
		"broker without a host":      {[]string{"pub", "-L", "mqtt:///a", "-m", "x"}, nil, "", 2, "oncemq pub: --url: broker URL"},
		"empty URL":                  {[]string{"pub", "-L", "", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --url: is empty"},
		"URL beside host":            {[]string{"pub", "-L", nobody, "-h", "h", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --url: cannot stand beside --host and --port"},
		"port":                       {[]string{"pub", "-p", "99999", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --port: 99999 is out of range; use 1 to 65535"},
		"TLS option without TLS":     {[]string{"pub", "-L", nobody, "--insecure", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --url: does not ask for TLS"},
		"no such CA file":            {[]string{"pub", "--cafile", "/nowhere/ca.pem", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --cafile: open /nowhere/ca.pem"},
		"certificate without key":    {[]string{"pub", "--cert", "/nowhere/c.pem", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --cert: needs --key beside it"},
		"two passwords":              {[]string{"pub", "-P", "x", "--password-file", "y", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --pw: cannot stand beside --password-file; give one password"},
		"no such password file":      {[]string{"pub", "--password-file", "/nowhere/pw", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --password-file: open /nowhere/pw"},
		"no such variable":           {[]string{"pub", "--password-env", "NOWHERE", "-t", "a", "-m", "x"}, nil, "", 2, `oncemq pub: --password-env: the environment has no variable "NOWHERE"`},
		"no such policy file":        {[]string{"pub", "--policy", "/nowhere/p.yaml", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --policy: open /nowhere/p.yaml"},
		"will without a topic":       {[]string{"pub", "--will-qos", "1", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --will-qos: needs --will-topic beside it"},
		"store's scheme":             {[]string{"pub", "--store", "mysql://h/d", "-t", "a", "-m", "x"}, nil, "", 2, `oncemq pub: --store: invalid argument: store scheme "mysql" is unknown; this program knows sqlite, postgres, postgresql, redis, `},
		"store without a scheme":     {[]string{"pub", "--store", "outbox.db", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --store: invalid argument: store URL has no scheme"},
		"option of the store":        {[]string{"pub", "--store", "sqlite:x.db?colour=red", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --store: "},
		"unreachable store":          {[]string{"pub", "--store", "sqlite:///proc/nowhere/x.db", "-t", "a", "-m", "x"}, nil, "", 5, "oncemq pub: --store: open /proc/nowhere/x.db: "},
		"unreachable store of sub":   {[]string{"sub", "--store", "sqlite:///proc/nowhere/x.db", "-t", "a", "--group", "g"}, nil, "", 5, "oncemq sub: --store: open /proc/nowhere/x.db: "},
		"unreachable store, relay":   {[]string{"relay", "--store", "sqlite:///proc/nowhere/x.db"}, nil, "", 5, "oncemq relay: --store: open /proc/nowhere/x.db: "},
		"path of the store once":     {[]string{"pub", "--store", "sqlite:///proc/x.db", "-t", "a", "-m", "x"}, nil, "", 5, "oncemq pub: --store: open /proc/x.db: store is unavailable: no such file or directory\n"},
		"default store":              {[]string{"pub", "-t", "a", "-m", "x"}, []string{"XDG_STATE_HOME=/proc/nowhere"}, "", 5, "oncemq pub: --store: the default store cannot be made; name another: mkdir /proc/nowhere: "},
		"scheme of outbox":           {[]string{"outbox", "stats", "--store", "mysql://h/d"}, nil, "", 2, `oncemq outbox stats: --store: invalid argument: store scheme "mysql" is unknown`},
		"outbox without a file":      {[]string{"outbox", "stats", "--store", "sqlite:"}, nil, "", 2, "oncemq outbox stats: --store: invalid argument: sqlite URL: no file is named"},
		"memory for others":          {[]string{"pub", "--store", "memory:", "--no-wait", "-t", "a", "-m", "x"}, nil, "", 2, "oncemq pub: --no-wait: needs a store that outlives this process"},
		"format":                     {[]string{"sub", "-t", "a", "-F", "%k"}, nil, "", 2, "oncemq sub: --format: %k is not a sequence"},
		"format and JSON":            {[]string{"sub", "-t", "a", "-F", "%p", "--json"}, nil, "", 2, "oncemq sub: --format: cannot stand beside"},
		"dedup key":                  {[]string{"sub", "-t", "a", "--group", "g", "--dedup-key", "colour"}, nil, "", 2, `oncemq sub: --dedup-key: dedup key "colour"`},
		"window without a group":     {[]string{"sub", "-t", "a", "--window", "1h"}, nil, "", 2, "oncemq sub: --window: needs --group beside it"},
		"window too short":           {[]string{"sub", "-t", "a", "--group", "g", "--window", "0.1"}, nil, "", 2, "oncemq sub: --window: 100ms is too short"},
		"window of zero":             {[]string{"sub", "-t", "a", "--group", "g", "--window", "0"}, nil, "", 2, "oncemq sub: --window: is zero; use a time above it"},
		"lease of zero":              {[]string{"sub", "-t", "a", "--group", "g", "--lease", "0"}, nil, "", 2, "oncemq sub: --lease: is zero; use a time above it"},
		"no time to connect":         {[]string{"sub", "-t", "a", "--connect-timeout", "0s"}, nil, "", 2, "oncemq sub: --connect-timeout: is zero; use a time above it"},
		"window and session":         {[]string{"sub", "-t", "a", "--group", "g", "-i", "me", "--window", "1h", "-x", "1h"}, nil, "", 2, "oncemq sub: --window: 1h0m0s is shorter than --session-expiry and the retries of a message; use 1h0m2s or more, or a shorter --session-expiry"},
		"window and endless session": {[]string{"sub", "-t", "a", "--group", "g", "-i", "me", "--window", "1h", "-x", "-1"}, nil, "", 2, "oncemq sub: --window: 1h0m0s is shorter than --session-expiry and the retries of a message"},
		"window too long":            {[]string{"sub", "-t", "a", "--group", "g", "--window", "876000h"}, nil, "", 2, "oncemq sub: --window: 876000h0m0s is too long; use 788400h0m0s or less"},
		"group":                      {[]string{"sub", "-t", "a", "--group", "a/b"}, nil, "", 2, "oncemq sub: --group: "},
		"session without a name":     {[]string{"sub", "-t", "a", "-c"}, nil, "", 2, "oncemq sub: --keep-session: needs a client ID that stays the same; give -i"},
		"relay's time-out":           {[]string{"relay", "--timeout", "5"}, nil, "", 2, "oncemq relay: --timeout: belongs to --once"},
		"relay of nothing":           {[]string{"relay", "--store", "memory:"}, nil, "", 2, "oncemq relay: --store: memory: begins empty"},
		"URL as a count":             {[]string{"bench", "pub", "-L", "mqtt://usr:topsecret@host"}, nil, "", 2, `oncemq bench pub: --count: "mqtt://…@host" is not a whole number; the broker's URL is --url's here`},
		"URL as a number":            {[]string{"sub", "-t", "a", "-C", "mqtt://usr:topsecret@host"}, nil, "", 2, `oncemq sub: --count: "mqtt://…@host" is not a whole number`},
		"URL as a choice":            {[]string{"sub", "-t", "a", "-o", "mqtt://usr:top/s@ecret@host"}, nil, "", 2, `oncemq sub: --output: "mqtt://…@host" is not a choice`},
		"URL as a switch":            {[]string{"sub", "-t", "a", "--json=mqtt://usr:topsecret@host"}, nil, "", 2, `oncemq sub: --json: "mqtt://…@host" is neither true nor false`},
		"URL as a duration":          {[]string{"sub", "-t", "a", "-W", "mqtt://usr:topsecret@host"}, nil, "", 2, `oncemq sub: --wait: "mqtt://…@host" is not a duration`},
		"URL as an argument":         {[]string{"sub", "mqtt://usr:topsecret@host"}, nil, "", 2, `oncemq sub: unexpected argument "mqtt://…@host"`},
		"URL without a space":        {[]string{"sub", "-Lmqtt://usr:topsecret@host"}, nil, "", 2, `oncemq sub: -Lmqtt://…@host: is not an option`},
		"long password in a URL":     {[]string{"sub", "mqtt://usr:topsecret" + long + "@host"}, nil, "", 2, `oncemq sub: unexpected argument "mqtt://…@host"`},
		"lane":                       {[]string{"outbox", "list", "--store", "memory:", "--lane", "7"}, nil, "", 2, "oncemq outbox list: --lane: 7 is no lane of this store; it has 1"},
		"state":                      {[]string{"outbox", "list", "--state", "lost"}, nil, "", 2, `oncemq outbox list: --state: "lost" is not a choice; use pending, delivered, failed or expired`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, invocation{args: test.args, env: test.env, stdin: strings.NewReader(test.stdin)})
			require.Equal(t, test.code, got.code, got.stderr)
			require.Truef(t, strings.HasPrefix(got.stderr, test.stderr), "got  %s\nwant %s", got.stderr, test.stderr)
			require.Equal(t, 1, strings.Count(got.stderr, "\n"), "more than a line: %s", got.stderr)
			require.Less(t, len(got.stderr), 400, "a long line: %s", got.stderr)
			require.Empty(t, got.stdout)
		})
	}
}

func TestCorruptStore(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.db")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("this is no database\n", 500)), 0o600))
	got := runOnce(t, command("pub", "-L", nobody, "--store", "sqlite://"+file, "-t", "a", "-m", "x"))
	require.Equal(t, exitStore, got.code, got.stderr)
	require.True(t, strings.HasPrefix(got.stderr, "oncemq pub: --store: open "+file+": store is corrupt"), got.stderr)
	require.Equal(t, 1, strings.Count(got.stderr, "\n"), got.stderr)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(after), "this is no database"), "the file was overwritten")
}

func TestBrokerRefusesCredentials(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"alice": "right"}})
	for name, args := range map[string][]string{
		"pub":    {"pub", "-L", b.URL(), "-u", "alice", "-P", "wrong", "-t", "a", "-m", "x"},
		"pub -l": {"pub", "-L", b.URL(), "-u", "alice", "-P", "wrong", "-t", "a", "-l"},
		"sub":    {"sub", "-L", b.URL(), "-u", "alice", "-P", "wrong", "-t", "a"},
		"relay":  {"relay", "-L", b.URL(), "-u", "alice", "-P", "wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, invocation{args: args, stdin: strings.NewReader("line\n")})
			require.Equal(t, exitRefused, got.code, got.stderr)
			require.Contains(t, got.stderr, "bad user name or password")
			require.NotContains(t, got.stderr, "wrong")
			lines := 1
			if name == "pub -l" {
				lines = 2 // the numbers
			}
			require.Equal(t, lines, strings.Count(got.stderr, "\n"), got.stderr)
		})
	}
}

// TestLineTooLong: what came before the line is stored and delivered.
func TestLineTooLong(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	in := "one\ntwo\n" + strings.Repeat("x", maxPayload+1) + "\nfour\n"
	got := runOnce(t, invocation{args: []string{"pub", "-L", b.URL(), "-t", "a", "-l"}, stdin: strings.NewReader(in)})
	require.Equal(t, exitFailed, got.code, got.stderr)
	require.Contains(t, got.stderr, "oncemq pub: line 3 of standard input is longer than 1048576 bytes")
	require.Equal(t, "2 stored, 2 delivered, 0 failed, 0 expired", got.lastLine())
	require.Len(t, b.FirstArrivals("a"), 2)
}
