package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

func TestPubSources(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "payload")
	require.NoError(t, os.WriteFile(file, []byte("from\na file\n"), 0o600))
	for name, test := range map[string]struct {
		args  []string
		stdin string
		want  []string
	}{
		"message":        {[]string{"-m", "x=1"}, "", []string{"x=1"}},
		"a dash":         {[]string{"-m", "-l"}, "", []string{"-l"}},
		"an equals sign": {[]string{"--message==="}, "", []string{"=="}},
		"empty message":  {[]string{"-m", ""}, "", []string{""}},
		"file":           {[]string{"-f", file}, "", []string{"from\na file\n"}},
		"all of stdin":   {[]string{"-s"}, "a\nb", []string{"a\nb"}},
		"empty":          {[]string{"-n"}, "", []string{""}},
		"lines":          {[]string{"-l"}, "a\n\nb\r\nc", []string{"a", "", "b\r", "c"}},
		"no lines":       {[]string{"-l"}, "", nil},
		"repeated":       {[]string{"-m", "x", "--repeat", "3", "--repeat-delay", "0.01"}, "", []string{"x", "x", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			got := runOnce(t, invocation{args: append([]string{"pub", "-L", b.URL() + "/a/b"}, test.args...), stdin: strings.NewReader(test.stdin)})
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Equal(t, test.want, payloads(b, "a/b"))
			require.Empty(t, got.stdout)
			if test.args[0] == "-l" {
				n := len(test.want)
				require.Equal(t, fmt.Sprintf("%d stored, %d delivered, 0 failed, 0 expired\n", n, n), got.stderr)
			} else {
				require.Empty(t, got.stderr)
			}
		})
	}
}

// TestPubProperties: what the options say arrives.
func TestPubProperties(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	got := runOnce(t, command("pub", "-L", b.URL(), "-t", "a", "--topic", "b", "-m", "x", "-q", "2", "-r", "--message-id", "m-1", "--order-key", "k",
		"-D", "publish", "user-property", "n", "v", "-H", "n=w", "--content-type", "t/p", "--utf8", "--expiry", "1h",
		"--response-topic", "r", "--correlation-data", "c"))
	require.Equal(t, exitDone, got.code, got.stderr)
	all := b.FirstArrivals("b") // the last of two names of one option counts
	require.Len(t, all, 1)
	p := all[0].Packet
	require.Equal(t, "m-1", all[0].MessageID)
	require.EqualValues(t, 2, p.QoS)
	require.True(t, p.Retain)
	text := p.String()
	for _, part := range []string{"t/p", `"n"`, `"v"`, `"w"`, "ordering-key"} {
		require.Contains(t, strings.ReplaceAll(text, "n=", `"n"`), strings.Trim(part, `"`))
	}
}

// TestPubAtMostOnce: -q 0 is QoS 0, although an outbox makes 1 of it by itself.
func TestPubAtMostOnce(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	got := runOnce(t, command("pub", "-L", b.URL(), "-t", "a", "-m", "x", "-q", "0"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.NoError(t, b.WaitFirstArrivals(within(t, 10*time.Second), 1))
	require.Zero(t, b.FirstArrivals("a")[0].Packet.QoS)

	policy := filepath.Join(t.TempDir(), "policy.yaml")
	require.NoError(t, os.WriteFile(policy, []byte("rules:\n  - filter: a\n    level: 2\n"), 0o600))
	got = runOnce(t, command("pub", "-L", b.URL(), "-t", "a", "-m", "y", "-q", "0", "--policy", policy))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.NoError(t, b.WaitFirstArrivals(within(t, 10*time.Second), 2))
	require.EqualValues(t, 2, b.FirstArrivals("a")[1].Packet.QoS)
}

// TestPubRefused: the broker's answers decide the exit code, and are told in
// words; the other messages arrive.
func TestPubRefused(t *testing.T) {
	t.Parallel()
	one := byte(1)
	for name, test := range map[string]struct {
		options brokertest.Options
		args    []string
		stdin   string
		code    int
		stderr  string
		last    string
	}{
		"not authorized": {
			brokertest.Options{Answers: []brokertest.Answer{{Topic: "a", Code: 0x87}}},
			[]string{"-m", "x"},
			"", exitRefused, "failed: not authorized (0x87)", "",
		},
		"for now": {
			brokertest.Options{Answers: []brokertest.Answer{{Topic: "a", Code: 0x97, Times: 2}}},
			[]string{"-m", "x"},
			"", exitDone, "", "",
		},
		"for now, too often": {
			brokertest.Options{Answers: []brokertest.Answer{{Topic: "a", Code: 0x97}}},
			[]string{"-m", "x", "--attempts", "2"},
			"", exitRefused, "failed: refused 2 times, last: quota exceeded (0x97)", "",
		},
		"QoS above the maximum": {
			brokertest.Options{MaximumQoS: &one},
			[]string{"-m", "x", "-q", "2"},
			"", exitRefused, "QoS", "",
		},
		"one of three too large": {
			brokertest.Options{MaximumPacketSize: 300},
			[]string{"-l"},
			"one\n" + strings.Repeat("x", 300) + "\nthree\n", exitRefused, "failed: ", "3 stored, 2 delivered, 1 failed, 0 expired",
		},
		"expired": {
			brokertest.Options{ConnackCodes: []byte{0x88, 0x88, 0x88}},
			[]string{"-m", "x", "--expiry", "1ms"},
			"", exitFailed, "expired: its expiry passed before it could be sent", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, test.options)
			got := runOnce(t, invocation{args: append([]string{"pub", "-L", b.URL(), "-t", "a"}, test.args...), stdin: strings.NewReader(test.stdin)})
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stderr, test.stderr)
			if test.last != "" {
				require.Equal(t, test.last, got.lastLine())
			}
			require.Empty(t, b.Violations())
			require.Less(t, b.Connections(), 6)
		})
	}
}

// TestPubLeavesAndTakesUp: what cannot be delivered in time stays, and the next
// run with the same store delivers it first, and counts it.
func TestPubLeavesAndTakesUp(t *testing.T) {
	t.Parallel()
	store := fileStore(t)
	got := runOnce(t, invocation{
		args:  []string{"pub", "-L", nobody, "--store", store, "-t", "a", "-l", "--timeout", "0.2"},
		stdin: strings.NewReader("one\ntwo\n"),
	})
	require.Equal(t, exitStored, got.code, got.stderr)
	require.Contains(t, got.stderr, "oncemq pub: 2 messages are stored and not delivered yet")
	require.Contains(t, got.stderr, "connection refused")
	require.Equal(t, "2 stored, 0 delivered, 0 failed, 0 expired", got.lastLine())

	got = runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "three", "--no-wait"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Empty(t, got.stderr)

	list := runOnce(t, command("outbox", "list", "--store", store, "--json"))
	require.Equal(t, exitDone, list.code, list.stderr)
	require.Equal(t, 3, strings.Count(list.stdout, `"state":"pending"`))

	b := startBroker(t, brokertest.Options{})
	got = runOnce(t, invocation{
		args:  []string{"pub", "-L", b.URL(), "--store", store, "-t", "a", "-l", "--json"},
		stdin: strings.NewReader("four\n"),
	})
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "1 stored, 4 delivered, 0 failed, 0 expired\n", got.stderr)
	require.Equal(t, []string{"one", "two", "three", "four"}, payloads(b, "a"))
	require.Equal(t, 1, strings.Count(got.stdout, `"event":"stored"`))
	require.Equal(t, 4, strings.Count(got.stdout, `"event":"delivered"`))

	// Without a line of its own it still delivers what is there.
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "five", "--no-wait")).code)
	got = runOnce(t, command("pub", "-L", b.URL(), "--store", store, "-t", "a", "-l"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "0 stored, 1 delivered, 0 failed, 0 expired\n", got.stderr)
}

// TestPubFullOutbox: an outbox with a limit smaller than the input takes it as
// delivery makes room; without delivery it is an error that says so, and what
// went in stays.
func TestPubFullOutbox(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	lines, text := numbered(3000)
	store := fileStore(t) + "?max_messages=70"
	got := runOnce(t, invocation{args: []string{"pub", "-L", b.URL(), "--store", store, "-t", "a", "-l"}, stdin: strings.NewReader(text)})
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, lines, payloads(b, "a"))

	got = runOnce(t, invocation{args: []string{"pub", "-L", nobody, "--store", store, "-t", "b", "-l", "--timeout", "0.3"}, stdin: strings.NewReader(text)})
	require.Equal(t, exitFailed, got.code, got.stderr)
	require.Contains(t, got.stderr, "outbox is full")
	require.Equal(t, "70 stored, 0 delivered, 0 failed, 0 expired", got.lastLine())

	got = runOnce(t, invocation{args: []string{"pub", "--no-wait", "--store", store, "-t", "b", "-l"}, stdin: strings.NewReader(text)})
	require.Equal(t, exitFailed, got.code, got.stderr)
	require.Contains(t, got.stderr, "outbox is full")
}

// TestPubDefaultStore: pub --no-wait and relay meet in the user's state
// directory.
func TestPubDefaultStore(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	env := []string{"HOME=" + state}
	b := startBroker(t, brokertest.Options{})
	env = append(env, "XDG_STATE_HOME=", "ONCEMQ_BROKER="+b.URL())
	got := runOnce(t, invocation{args: []string{"pub", "-t", "a", "-m", "x", "--no-wait"}, env: env})
	require.Equal(t, exitDone, got.code, got.stderr)
	dir := filepath.Join(state, ".local", "state", "oncemq")
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "outbox.db"): 0o600} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
	got = runOnce(t, invocation{args: []string{"relay", "--once", "--timeout", "10"}, env: env})
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, []string{"x"}, payloads(b, "a"))
}

// TestPubBesideRelay: another process drains the store, so that no event comes
// to this one. It learns from the store, and counts exactly.
func TestPubBesideRelay(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "forbidden", Code: 0x87}}})
	store := fileStore(t)
	stop := startRelay(t, b, store)
	defer stop()
	got := runOnce(t, invocation{
		args:  []string{"pub", "-L", b.URL(), "--store", store, "-t", "a", "-l", "--json"},
		stdin: strings.NewReader("one\ntwo\nthree\n"),
	})
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "3 stored, 3 delivered, 0 failed, 0 expired", got.lastLine())
	require.Equal(t, 3, strings.Count(got.stdout, `"event":"delivered"`))
	got = runOnce(t, command("pub", "-L", b.URL(), "--store", store, "-t", "forbidden", "-m", "x", "--json"))
	require.Equal(t, exitRefused, got.code, got.stderr)
	require.Contains(t, got.stderr, "not authorized (0x87)")
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	require.Len(t, lines, 2)
	var e event
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &e))
	require.Equal(t, "failed", e.Event)
	require.EqualValues(t, 0x87, e.ReasonCode)
	require.Contains(t, e.Reason, "not authorized")
}

// TestPubFlagsWin: the command line wins over the environment, also where they
// use different options for one thing.
func TestPubFlagsWin(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"alice": "right"}})
	host, port, _ := strings.Cut(b.Addr(), ":")
	secret := filepath.Join(t.TempDir(), "pw")
	require.NoError(t, os.WriteFile(secret, []byte("right\n"), 0o600))
	for name, test := range map[string]struct{ args, env []string }{
		"host over broker":       {[]string{"-h", host, "-p", port, "-u", "alice", "-P", "right"}, []string{"ONCEMQ_BROKER=" + nobody}},
		"broker over host":       {[]string{"-L", b.URL(), "-u", "alice", "-P", "right"}, []string{"ONCEMQ_HOST=nowhere.invalid", "ONCEMQ_PORT=1"}},
		"password file over env": {[]string{"-L", b.URL(), "-u", "alice", "--password-file", secret}, []string{"ONCEMQ_PASSWORD=wrong"}},
		"topic over topic":       {[]string{"-L", b.URL(), "-u", "alice", "-P", "right", "-t", "a"}, []string{"ONCEMQ_TOPIC=not/this/one"}},
		"all of it by env":       {nil, []string{"ONCEMQ_BROKER=" + b.URL(), "ONCEMQ_USERNAME=alice", "ONCEMQ_PASSWORD=right", "ONCEMQ_QOS=2"}},
		"named variable":         {[]string{"-L", b.URL(), "-u", "alice", "--password-env", "PW"}, []string{"PW=right"}},
		"in the URL":             {[]string{"-L", "mqtt://alice:right@" + b.Addr()}, nil},
		"two brokers":            {[]string{"-L", nobody, "-L", "mqtt://" + b.Addr(), "-u", "alice", "-P", "right"}, nil},
		"two brokers by env":     {[]string{"-u", "alice", "-P", "right"}, []string{"ONCEMQ_BROKER=" + nobody + " " + b.URL()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, invocation{args: append([]string{"pub", "-t", "a", "-m", "x", "--timeout", "10"}, test.args...), env: test.env})
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Empty(t, b.FirstArrivals("not/this/one"))
		})
	}
}

// TestSecretsStaySecret: no output has a credential or a payload, not even with
// --debug and everything going wrong.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	const secret, user = "s3cr3t-canary", "user-canary"
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{user: secret}})
	wrong := startBroker(t, brokertest.Options{Credentials: map[string]string{"x": "y"}})
	at := func(addr string) string { return "mqtt://" + user + ":" + secret + "@" + addr }
	for name, test := range map[string]struct{ args, env []string }{
		"delivered":          {[]string{"pub", "-L", at(b.Addr()) + "/a", "-m", "payload-canary"}, nil},
		"refused":            {[]string{"pub", "-L", at(wrong.Addr()) + "/a", "-m", "payload-canary"}, nil},
		"unreachable":        {[]string{"pub", "-L", at("127.0.0.1:1") + "/a", "-m", "payload-canary", "--timeout", "0.3"}, nil},
		"unreachable sub":    {[]string{"sub", "-L", at("127.0.0.1:1") + "/a", "-W", "0.3"}, nil},
		"unreachable socket": {[]string{"sub", "-L", "ws://" + user + ":" + secret + "@127.0.0.1:1/mqtt", "-t", "a", "-W", "0.3"}, nil},
		"URL without a host": {[]string{"pub", "-L", at(""), "-m", "payload-canary"}, nil},
		"URL not parsed":     {[]string{"pub", "-L", at("h:port"), "-m", "payload-canary"}, nil},
		"URL with #":         {[]string{"pub", "-L", "mqtt://" + user + ":" + secret + "#@h", "-m", "payload-canary"}, nil},
		"unknown scheme":     {[]string{"pub", "-L", "http://" + user + ":" + secret + "@h/a", "-m", "payload-canary"}, nil},
		"environment":        {[]string{"pub", "-t", "a", "-m", "payload-canary", "-u", user}, []string{"ONCEMQ_BROKER=" + wrong.URL(), "ONCEMQ_PASSWORD=" + secret}},
		"store URL":          {[]string{"pub", "-t", "a", "-m", "payload-canary", "--store", "postgres://operator:" + secret + "@127.0.0.1:1/d"}, nil},
		"store URL, redis":   {[]string{"pub", "-t", "a", "-m", "payload-canary", "--store", "redis://operator:" + secret + "@127.0.0.1:1/0"}, nil},
		"store URL, sqlite":  {[]string{"pub", "-t", "a", "-m", "payload-canary", "--store", "sqlite://" + user + ":" + secret + "@h/d"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, invocation{args: append(test.args, "--debug"), env: test.env})
			for _, canary := range []string{secret, user, "payload-canary"} {
				require.NotContains(t, got.stderr, canary)
				require.NotContains(t, got.stdout, canary)
			}
		})
	}
}

// TestPubBrokerStaysOpen: a broker did not close its side after DISCONNECT, and
// waiting for it used up the time in which the lane was to be settled and
// released: what was delivered would have been sent again, and the next run
// would have waited for the lease to end.
func TestPubBrokerStaysOpen(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	l.Script(func(c *brokertest.Conn) {
		c.Handshake()
		p := c.ExpectPublish()
		c.SendPuback(p.PacketID, 0)
		c.ExpectDisconnect()
	})
	store := fileStore(t)
	got := runOnce(t, command("pub", "-L", l.URL(), "--store", store, "-t", "a", "-m", "x"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Empty(t, got.stderr)
	var stats statsObject
	require.NoError(t, json.Unmarshal([]byte(runOnce(t, command("outbox", "stats", "--store", store, "--json")).stdout), &stats))
	require.Zero(t, stats.Pending)
	require.Zero(t, stats.Lanes[0].LeaseRemainingMS)
}

// Of a state that is published often only the newest is kept while it waits; none of
// the others counts as a failure, and the limits of the store show.
func TestPubSupersedes(t *testing.T) {
	t.Parallel()
	store := fileStore(t) + "?max_messages=3&max_bytes=1MiB&max_age=24h"
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	pub := []string{"pub", "-L", b.URL(), "--store", store, "-t", "door/1", "--supersede"}
	for _, payload := range []string{"open", "closed"} {
		got := runOnce(t, command(append(pub, "-m", payload, "--no-wait")...))
		require.Equal(t, exitDone, got.code, got.stderr)
	}
	stats := runOnce(t, command("outbox", "stats", "--store", store))
	require.Equal(t, exitDone, stats.code, stats.stderr)
	for _, line := range []string{
		`pending +1\n`, `superseded +1\n`, `bytes +\d\d\n`, `limits of the outbox +3 messages, 1048576 bytes, 24h0m0s of age\n`,
	} {
		require.Regexp(t, line, stats.stdout)
	}
	require.Contains(t, runOnce(t, command("store", "status", "--store", store)).stdout, "3 messages, 1048576 bytes, 24h0m0s of age")
	var object statsObject
	require.NoError(t, json.Unmarshal([]byte(runOnce(t, command("outbox", "stats", "--store", store, "--json")).stdout), &object))
	require.EqualValues(t, 1, object.Superseded)
	require.EqualValues(t, limitsObject{MaxMessages: 3, MaxBytes: 1 << 20, MaxAgeMS: 24 * 3600 * 1000}, object.limitsObject)

	in := command(append(pub, "-l", "--json")...)
	in.stdin = strings.NewReader("1\n2\n3\n4\n5\n")
	got := runOnce(t, in)
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Regexp(t, `5 stored, \d delivered, 0 failed, 0 expired`, got.stderr)
	arrivals := b.FirstArrivals("door/1")
	require.Equal(t, "5", string(arrivals[len(arrivals)-1].Packet.Payload))
	require.NotEqual(t, "open", string(arrivals[0].Packet.Payload))
}

// A message that no outbox of that size takes is refused at once, with the limit.
func TestPubTooLargeForTheOutbox(t *testing.T) {
	t.Parallel()
	got := runOnce(t, command("pub", "-L", "mqtt://127.0.0.1:1", "--store", fileStore(t)+"?max_bytes=1000", "-t", "a", "-m", strings.Repeat("x", 2000)))
	require.NotEqual(t, exitDone, got.code)
	require.Contains(t, got.stderr, "at most 1000 bytes are allowed, 0 are stored, and 20")
}

// A message is held back until its moment, across processes.
func TestPubNotBefore(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	store := fileStore(t)
	moment := time.Now().Add(2 * time.Second).Truncate(time.Second).Add(time.Second)
	got := runOnce(t, command("pub", "-L", b.URL(), "--store", store, "-t", "a", "-m", "late", "--not-before", moment.Format(time.RFC3339), "--no-wait"))
	require.Equal(t, exitDone, got.code, got.stderr)
	got = runOnce(t, command("relay", "-L", b.URL(), "--store", store, "--once"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.False(t, time.Now().Before(moment), "early")
	require.Len(t, b.FirstArrivals("a"), 1)
}
