package main

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// answerRequests answers what comes on a topic, first with what is no response to it.
func answerRequests(t *testing.T, url, topic string, times int) {
	t.Helper()
	c, err := autopaho.New(t.Context(), autopaho.Config{Servers: []string{url}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(context.WithoutCancel(t.Context()))) })
	_, err = c.Subscribe(within(t, 20*time.Second), autopaho.SubscribeConfig{
		Filters: []string{topic},
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			for i := range times + 1 {
				a := autopaho.Message{Topic: m.Properties.ResponseTopic, QoS: 1, Payload: []byte("of another")}
				if i > 0 {
					a.Payload = []byte("re: " + string(m.Payload))
					a.Properties.CorrelationData = m.Properties.CorrelationData
				}
				if _, err := c.Publish(ctx, a); err != nil {
					return err
				}
			}
			return nil
		},
	})
	require.NoError(t, err)
}

func TestRR(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	answerRequests(t, m.URL(), "work", 2)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"one":            {[]string{"-m", "x"}, exitDone, "re: x\n"},
		"given topic":    {[]string{"-m", "x", "-e", "answers", "-v"}, exitDone, "answers re: x\n"},
		"given data":     {[]string{"-m", "x", "--correlation-data", "c1", "-F", "%D %p"}, exitDone, "c1 re: x\n"},
		"several":        {[]string{"-n", "-C", "2"}, exitDone, "re: \nre: \n"},
		"QoS 0":          {[]string{"-s", "-q", "0"}, exitDone, "re: in\n"},
		"more than come": {[]string{"-m", "x", "-C", "3", "-W", "5"}, exitTimeout, "re: x\nre: x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"rr", "-L", m.URL(), "-t", "work", "-W", "20"}, test.args...)
			got := runOnce(t, invocation{args: args, stdin: strings.NewReader("in")})
			require.Equal(t, test.code, got.code, got.stderr)
			require.Equal(t, test.want, got.stdout)
		})
	}
}

// TestRRAnswersMosquitto: mosquitto_rr and rr understand each other's requests. The
// responder is a sub --exec with a pub.
func TestRRWithExec(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	program := testenv.Build(t, "./cmd/oncemq")
	subscribed(t, m, "-t", "work", "--exec", `printf '%s!' "$(cat)" | `+program+` pub -L `+m.URL()+` -t "$MQTT_RESPONSE_TOPIC" --correlation-data "$MQTT_CORRELATION_DATA" -s`)
	got := runOnce(t, command("rr", "-L", m.URL(), "-t", "work", "-m", "hello", "-W", "20"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "hello!\n", got.stdout)
	cmd := exec.CommandContext(within(t, 20*time.Second), testenv.Program(t, "mosquitto_rr", "mosquitto-clients"), "-h", m.Host(), "-p", strconv.Itoa(m.Port()),
		"-t", "work", "-e", "answers", "-m", "hello", "-q", "1", "-D", "publish", "correlation-data", "c")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	require.Equal(t, "hello!\n", string(text))
}

func TestRREnds(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	refusing := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{
		{On: brokertest.PUBLISH, Topic: "forbidden", Code: 0x87},
		{On: brokertest.SUBSCRIBE, Topic: "forbidden/answers", Code: 0x87},
	}})
	for name, test := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"nobody there":     {[]string{"-L", nobody, "-t", "a", "-n", "-W", "3"}, exitTimeout, "oncemq rr: timed out; last: "},
		"nobody at once":   {[]string{"-L", nobody, "-t", "a", "-n"}, exitFailed, "connect: connection refused\n"},
		"two of nobody":    {[]string{"-L", nobody, "-L", nobody, "-t", "a", "-n"}, exitFailed, "connect: connection refused\n"},
		"another broker":   {[]string{"-L", nobody, "-L", refusing.URL(), "-t", "forbidden", "-n"}, exitRefused, "oncemq rr: the request was refused: "},
		"no subscriber":    {[]string{"-L", m.URL(), "-t", "a", "-n", "-W", "6"}, exitTimeout, "oncemq rr: timed out; the broker had no subscriber for the request\n"},
		"refused request":  {[]string{"-L", refusing.URL(), "-t", "forbidden", "-n"}, exitRefused, "oncemq rr: the request was refused: "},
		"refused response": {[]string{"-L", refusing.URL(), "-t", "a", "-e", "forbidden/answers", "-n"}, exitRefused, "oncemq rr: "},
		"wildcard":         {[]string{"-L", nobody, "-t", "a", "-e", "a/+", "-n"}, exitUsage, `oncemq rr: --response-topic: "a/+" has the wildcard +`},
		"no payload":       {[]string{"-L", nobody, "-t", "a"}, exitUsage, "oncemq rr: no payload is given; use one of -m TEXT, -f FILE, -s, -n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"rr"}, test.args...)...))
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stderr, test.stderr)
			require.Empty(t, got.stdout)
		})
	}
}
