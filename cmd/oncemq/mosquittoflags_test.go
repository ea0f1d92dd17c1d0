package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// mosquittoFlag is an option of mosquitto 2.0.11's clients, and what becomes of it.
type mosquittoFlag struct {
	flags   string // all its names
	value   string // as words of a command line; empty for a switch
	refused string // what is said of it; empty if it is accepted
	alone   bool   // it cannot stand beside the options that the test gives
}

// mosquittoFlags are the options that the manual pages of mosquitto_pub, mosquitto_sub
// and mosquitto_rr have in common.
func mosquittoFlags() []mosquittoFlag {
	return []mosquittoFlag{
		{flags: "-A", value: "127.0.0.1"},
		{flags: "-c --disable-clean-session", value: "-i me"},
		{flags: "--cafile", value: "ca.pem"},
		{flags: "--capath", value: "certs"},
		{flags: "--cert", value: "client.pem --key client.key"},
		{flags: "--key", value: "client.key --cert client.pem"},
		{flags: "--ciphers", value: "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"},
		{flags: "-d --debug"},
		{flags: "-D --property", value: "connect receive-maximum 7"},
		{flags: "-D", value: "will will-delay-interval 3 --will-topic w"},
		{flags: "-h --host", value: "127.0.0.1", alone: true},
		{flags: "-i --id", value: "me"},
		{flags: "-I --id-prefix", value: "me"},
		{flags: "--insecure"},
		{flags: "-k --keepalive", value: "30"},
		{flags: "--keyform", value: "pem"},
		{flags: "--keyform", value: "engine", refused: noEngine},
		{flags: "-L --url", value: "mqtt://127.0.0.1:1/a", alone: true},
		{flags: "--nodelay"},
		{flags: "-p --port", value: "1", alone: true},
		{flags: "-u --username", value: "me"},
		{flags: "-P --pw", value: "secret"},
		{flags: "--proxy", value: "socks5h://user:pw@127.0.0.1:1"},
		{flags: "--psk", value: "0123abcd", refused: noPSK},
		{flags: "--psk-identity", value: "me", refused: noPSK},
		{flags: "-q --qos", value: "2"},
		{flags: "--quiet"},
		{flags: "-S"},
		{flags: "-t --topic", value: "b"},
		{flags: "--tls-alpn", value: "mqtt"},
		{flags: "--tls-engine", value: "pkcs11", refused: noEngine},
		{flags: "--tls-engine-kpass-sha1", value: "0123", refused: noEngine},
		{flags: "--tls-use-os-certs"},
		{flags: "--tls-version", value: "tlsv1.3"},
		{flags: "--tls-version", value: "tlsv1.1", refused: `"tlsv1.1" is not a choice; use tlsv1.2 or tlsv1.3`},
		{flags: "--unix", value: "/tmp/broker.sock", alone: true},
		{flags: "-V --protocol-version", value: "mqttv5"},
		{flags: "-V", value: "mqttv311", refused: "only MQTT 5 has what is promised; use mqttv5"},
		{flags: "-V", value: "mqttv31", refused: "only MQTT 5 has what is promised; use mqttv5"},
		{flags: "--will-topic", value: "w --will-payload p --will-qos 1 --will-retain"},
		{flags: "--will-payload", value: "p --will-topic w"},
		{flags: "--will-qos", value: "1 --will-topic w"},
		{flags: "--will-retain", value: "--will-topic w"},
		{flags: "-x", value: "60"},
		{flags: "-x", value: "-1"},
		{flags: "-x", value: "∞"},
	}
}

// TestMosquittoFlags: every option of mosquitto_pub, mosquitto_sub and mosquitto_rr is
// accepted, or refused with a sentence that says why.
func TestMosquittoFlags(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.write(a.client(time.Now().Add(time.Hour)), 0o600)
	for program, test := range map[string]struct {
		base []string
		own  []mosquittoFlag
	}{
		"pub": {[]string{"pub", "--no-wait", "--store", fileStore(t)}, []mosquittoFlag{
			{flags: "-f --file", value: a.file},
			{flags: "-l --stdin-line"},
			{flags: "-m --message", value: "x"},
			{flags: "-M", value: "10 -n"},
			{flags: "-n --null-message"},
			{flags: "-r --retain", value: "-n"},
			{flags: "-s --stdin-file"},
			{flags: "--repeat", value: "2 --repeat-delay 0.01 -n"},
			{flags: "--repeat-delay", value: "0.01 -n"},
			{flags: "-D", value: "publish user-property k v -n"},
		}},
		"sub": {[]string{"sub", "-W", "0.01"}, []mosquittoFlag{
			{flags: "-C", value: "1"},
			{flags: "-E"},
			{flags: "-F", value: "%t"},
			{flags: "-N"},
			{flags: "--pretty", value: "-F %j", refused: "needs --json beside it"},
			{flags: "--pretty", value: "--json"},
			{flags: "--pretty", value: "--json --out /nowhere/x", refused: "cannot stand beside --out"},
			{flags: "-R"},
			{flags: "--random-filter", value: "50.0"},
			{flags: "--remove-retained"},
			{flags: "--retain-as-published"},
			{flags: "--retained-only"},
			{flags: "-T --filter-out", value: "c"},
			{flags: "-U --unsubscribe", value: "c"},
			{flags: "-v --verbose"},
			{flags: "-W", value: "0.01"},
			{flags: "-D", value: "subscribe subscription-identifier 3", refused: "is chosen by this client itself"},
		}},
		"rr": {[]string{"rr", "-W", "0.01"}, []mosquittoFlag{
			{flags: "-e", value: "answers"},
			{flags: "-f", value: a.file},
			{flags: "-m", value: "x"},
			{flags: "-n"},
			{flags: "-s"},
			{flags: "--pretty", value: "--json"},
			{flags: "-F", value: "%t"},
			{flags: "-N"},
			{flags: "-R"},
			{flags: "-v"},
			{flags: "-W", value: "0.01"},
		}},
	} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			covered := map[string]bool{"--help": true}
			for _, f := range append(mosquittoFlags(), test.own...) {
				for flag := range strings.FieldsSeq(f.flags) {
					covered[flag] = true
				}
				for word := range strings.FieldsSeq(f.value) {
					if strings.HasPrefix(word, "--") {
						covered[word] = true
					}
				}
			}
			for _, f := range append(mosquittoFlags(), test.own...) {
				for flag := range strings.FieldsSeq(f.flags) {
					args := append(append([]string(nil), test.base...), flag)
					value := strings.NewReplacer("ca.pem", a.file, "certs", filepath.Dir(a.file), "client.pem", cert, "client.key", key).Replace(f.value)
					args = append(args, strings.Fields(value)...)
					if !f.alone {
						args = append(args, "-p", "1") // nobody listens there
					}
					if program != "sub" && !hasPayload(args) {
						args = append(args, "-n")
					}
					if flag != "-t" && flag != "--topic" {
						args = append(args, "-t", "a")
					}
					got := runOnce(t, command(args...))
					if f.refused != "" {
						require.Equalf(t, exitUsage, got.code, "%s: %s", strings.Join(args, " "), got.stderr)
						require.Containsf(t, got.stderr, f.refused, "%s", strings.Join(args, " "))
						continue
					}
					require.NotEqualf(t, exitUsage, got.code, "%s: %s", strings.Join(args, " "), got.stderr)
					require.NotContainsf(t, got.stderr, "is not an option", "%s", strings.Join(args, " "))
				}
			}
			// What the program at hand says that it has is in the table.
			mosquitto := testenv.Program(t, "mosquitto_"+program, "mosquitto-clients")
			help, _ := exec.CommandContext(t.Context(), mosquitto, "--help").CombinedOutput() // its exit code is 1
			flags := regexp.MustCompile(`(?m)(?:^ |[\[{(| ])(-[A-Za-z]|--[a-z][a-z0-9-]+)\b`).FindAllStringSubmatch(string(help), -1)
			require.Greater(t, len(flags), 30)
			for _, m := range flags {
				require.Truef(t, covered[m[1]], "mosquitto_%s has %s, which the table has not", program, m[1])
			}
		})
	}
}

func hasPayload(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "-n", "--null-message", "-m", "--message", "-l", "--stdin-line", "-s", "--stdin-file", "-f", "--file":
			return true
		}
	}
	return false
}

// TestRemoveRetained: what was printed is forgotten by the broker, what was filtered
// out is not.
func TestRemoveRetained(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	for _, topic := range []string{"a/1", "a/2", "a/3"} {
		mosquittoPub(t, m, "-t", topic, "-m", topic, "-r", "-q", "1")
	}
	got := runOnce(t, command("sub", "-L", m.URL(), "-t", "a/#", "-T", "a/2", "-C", "2", "-W", "20", "--remove-retained"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.ElementsMatch(t, []string{"a/1", "a/3"}, strings.Fields(got.stdout))
	got = runOnce(t, command("sub", "-L", m.URL(), "-t", "a/#", "-C", "1", "-W", "20", "-F", "%t"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "a/2\n", got.stdout)
	got = runOnce(t, command("sub", "-L", m.URL(), "-t", "a/#", "-T", "a/2", "-W", "0.5", "-F", "%t"))
	require.Equal(t, exitTimeout, got.code, got.stderr)
	require.Empty(t, got.stdout)
}

// TestSubUnsubscribes: -U removes what a kept session has.
func TestSubUnsubscribes(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for _, args := range [][]string{{"-t", "old", "-t", "kept", "-E"}, {"-U", "old"}} {
		got := runOnce(t, command(append([]string{"sub", "-L", b.URL(), "-i", "s", "-c"}, args...)...))
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Empty(t, got.stderr)
	}
	for _, topic := range []string{"old", "kept"} {
		b.Publish(brokertest.Packet{Topic: topic, Payload: []byte(topic), QoS: 1})
	}
	got := runOnce(t, command("sub", "-L", b.URL(), "-i", "s", "-c", "-t", "kept", "-t", "old", "-C", "1", "-W", "20"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "kept\n", got.stdout)
}

// TestRandomFilter: about the share of messages that was asked for is printed, and all
// are acknowledged.
func TestRandomFilter(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	args := []string{"sub", "-L", b.URL(), "-i", "s", "-c", "-t", "a"}
	require.Equal(t, exitDone, runOnce(t, command(append(args, "-E")...)).code)
	for i := range 1000 {
		b.Publish(brokertest.Packet{Topic: "a", Payload: []byte(strconv.Itoa(i)), QoS: 1})
	}
	got := runOnce(t, command(append(args, "--random-filter", "20", "-C", "100", "-W", "20")...))
	require.Equal(t, exitDone, got.code, got.stderr)
	printed := strings.Fields(got.stdout)
	require.Len(t, printed, 100)
	last, err := strconv.Atoi(printed[99]) // the 500th, give or take 45
	require.NoError(t, err)
	require.Greater(t, last, 250)
	require.Less(t, last, 800)
	rest := runOnce(t, command(append(args, "-C", "1", "-W", "20")...))
	require.Equal(t, exitDone, rest.code, rest.stderr)
	next, err := strconv.Atoi(strings.TrimSpace(rest.stdout))
	require.NoError(t, err)
	require.Greater(t, next, last, "all up to the last one were acknowledged")
}

func TestSubPretty(t *testing.T) {
	t.Parallel()
	l := listen(t, brokertest.Options{}, "-t", "a", "-C", "1", "--json", "--pretty")
	l.publish("a", "x", false)
	got := l.wait(t)
	require.Equal(t, exitDone, got.code, got.stderr)
	require.True(t, strings.HasPrefix(got.stdout, "{\n  \"tst\": "), got.stdout)
	require.True(t, strings.HasSuffix(got.stdout, "\n}\n"), got.stdout)
}
