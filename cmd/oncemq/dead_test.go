package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// deadStore is a store with letters 1 to 5: two of the outbox, three of consumers.
// The last cannot be read.
func deadStore(t *testing.T, url string) persist.Store {
	t.Helper()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "refused/a", Code: 0x87}, {Topic: "refused/b", Code: 0x90}}})
	for i, topic := range []string{"refused/a", "refused/b"} {
		got := runOnce(t, command("pub", "--no-wait", "-t", topic, "-m", fmt.Sprint("payload ", i), "--message-id", fmt.Sprint("m-", i), "--store", url))
		require.Equal(t, exitDone, got.code, got.stderr)
	}
	require.Equal(t, exitDone, runOnce(t, command("relay", "--once", "-L", b.URL(), "--store", url)).code)
	store, err := openURL(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	when := time.UnixMilli(1_700_000_000_250)
	full := persist.DeadLetter{
		Side: persist.SideConsumer, State: persist.StateFailed, Group: "billing", Key: "c-1", Attempts: 5,
		Reason: "no such customer", First: persist.Failure{Error: "timed out", At: when},
		Last: persist.Failure{Error: "no such customer", At: when.Add(time.Minute)},
		Message: persist.Message{
			ID: "c-1", Topic: "orders/eu", Payload: []byte{0xff, 0, 1}, QoS: 2, Expiry: time.Hour,
			Properties: persist.Properties{
				UTF8: false, ContentType: "application/x", ResponseTopic: "answers", CorrelationData: []byte("corr"),
				User: []persist.UserProperty{{Name: "message-id", Value: "c-1"}, {Name: "tenant", Value: "a"}, {Name: "ordering-key", Value: "k"}},
			},
		},
	}
	other := full
	other.Group, other.Key, other.Message.ID, other.Message.Topic, other.Message.Payload = "audit", "", "c-2", "orders/us", []byte("text")
	require.NoError(t, store.AddDeadLetters(t.Context(), []persist.DeadLetter{
		full, other, {Side: persist.SideConsumer, State: persist.StateFailed, Reason: "checksum does not fit"},
	}))
	return store
}

// letters are dead list's or dead retry's lines of JSON.
func jsonLines[T any](t *testing.T, out string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(out) {
		var v T
		require.NoError(t, json.Unmarshal([]byte(line), &v), line)
		all = append(all, v)
	}
	return all
}

func numbersOf(t *testing.T, out string) []int64 {
	t.Helper()
	var numbers []int64
	for _, l := range jsonLines[letterObject](t, out) {
		numbers = append(numbers, l.Number)
	}
	return numbers
}

func TestDead(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, url string) {
		t.Helper()
		store := deadStore(t, url)
		dead := func(want int, args ...string) outcome {
			got := runOnce(t, command(append(append([]string{"dead"}, args...), "--store", url)...))
			require.Equal(t, want, got.code, got.stderr)
			return got
		}
		list := func(args ...string) []int64 {
			return numbersOf(t, dead(exitDone, append([]string{"list", "--json"}, args...)...).stdout)
		}
		all := list()
		require.Len(t, all, 5)
		n := func(i int) string { return fmt.Sprint(all[i]) }

		require.Equal(t, all[:2], list("--side", "outbox"))
		require.Equal(t, all[2:], list("--side", "consumer"))
		require.Equal(t, all[2:3], list("--group", "billing"))
		require.Equal(t, all[2:4], list("--topic", "orders/+"))
		require.Equal(t, all[:1], list("--reason-code", "0x87"))
		require.Equal(t, all[:2], list("--reason-code", "135", "--reason-code", "0x90"))
		require.Equal(t, []int64{all[1], all[4]}, list("--number", n(4), "--number", n(1)))
		require.Equal(t, all[:3], list("--limit", "3"))
		require.Empty(t, list("--older-than", "1h"))
		require.Equal(t, all, list("--older-than", "1ms"))
		table := dead(exitDone, "list").stdout
		require.Contains(t, table, "NUMBER")
		require.Contains(t, table, "0x87")
		require.Contains(t, table, "no such customer")
		require.NotContains(t, table, "payload 0")
		require.Empty(t, dead(exitDone, "list", "--group", "none").stdout)

		var shownLetter struct {
			Key           string
			Attempts      int
			PayloadBase64 string        `json:"payload_base64"`
			FirstError    failureObject `json:"first_error"`
			LastError     failureObject `json:"last_error"`
			Properties    map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(dead(exitDone, "show", n(2), "--json").stdout), &shownLetter))
		require.Equal(t, "/wAB", shownLetter.PayloadBase64)
		require.Equal(t, "c-1", shownLetter.Key)
		require.Equal(t, 5, shownLetter.Attempts)
		require.Equal(t, "2023-11-14T22:13:20.250Z", shownLetter.FirstError.At)
		require.Equal(t, "timed out", shownLetter.FirstError.Error)
		require.Equal(t, "no such customer", shownLetter.LastError.Error)
		require.Equal(t, "corr", shownLetter.Properties["correlation-data"])
		require.EqualValues(t, 3600, shownLetter.Properties["message-expiry-interval"])
		require.Equal(t, "a", shownLetter.Properties["user-properties"].(map[string]any)["tenant"])
		text := dead(exitDone, "show", n(3)).stdout
		for _, want := range []string{"orders/us", "audit", "tenant=a", "application/x", "first error at", "2023-11-14T22:14:20.250Z", "1h0m0s", "\n\ntext\n"} {
			require.Contains(t, text, want)
		}
		require.Equal(t, "\xff\x00\x01", dead(exitDone, "show", n(2), "-o", "raw").stdout)
		require.Equal(t, "orders/eu ff0001\n", dead(exitDone, "show", n(2), "-F", "%t %x").stdout)
		require.Contains(t, dead(exitDone, "show", n(0)).stdout, "not authorized")
		require.Contains(t, dead(exitDone, "show", n(4)).stdout, "checksum does not fit")
		require.Equal(t, "oncemq dead show: there is no dead letter 4711\n", dead(exitFailed, "show", "4711").stderr)

		// A dry run changes nothing.
		dry := dead(exitFailed, "retry", "--side", "consumer", "--dry-run", "--json", "--to-topic", "mended").stdout
		outcomes := jsonLines[retriedObject](t, dry)
		require.Equal(t, []string{"would-retry", "would-retry", "refused"}, []string{outcomes[0].Outcome, outcomes[1].Outcome, outcomes[2].Outcome})
		require.Equal(t, "mended", outcomes[0].Topic)
		require.Equal(t, "the message cannot be read: checksum does not fit", outcomes[2].Error)
		require.Equal(t, all, list())

		got := dead(exitFailed, "retry", "--side", "consumer", "--to-topic", "mended", "--set-property", "tenant=b", "--set-property", "x=1",
			"--remove-property", "none")
		require.Equal(t, "oncemq dead retry: 1 of 3 letters were refused, and stay\n", got.stderr)
		require.Contains(t, got.stdout, n(2)+" goes to mended\n")
		require.Contains(t, got.stdout, n(4)+" refused: the message cannot be read: checksum does not fit\n")
		require.Equal(t, []int64{all[0], all[1], all[4]}, list())
		entries, err := store.GetOutbox(t.Context(), "c-1")
		require.NoError(t, err)
		require.Len(t, entries, 1)
		m := entries[0].Message
		require.Equal(t, "mended", m.Topic)
		require.EqualValues(t, 2, m.QoS)
		require.Equal(t, "k", m.OrderingKey)
		require.Zero(t, m.Expiry)
		user := m.Properties.User
		require.Len(t, user, 3, "the ID is sent from its field: %v", user)
		require.Equal(t, []persist.UserProperty{{Name: "tenant", Value: "b"}, {Name: "x", Value: "1"}}, user[:2])
		require.Regexp(t, `^\d{13} billing$`, user[2].Value)
		second, err := store.GetOutbox(t.Context(), "c-2")
		require.NoError(t, err)
		require.Len(t, second[0].Message.Properties.User, 2, "it has no key that a group could have forgotten")

		got = dead(exitFailed, "retry", "--number", n(0), "--number", "4711")
		require.Equal(t, n(0)+" goes to refused/a\n", got.stdout)
		require.Equal(t, "oncemq dead retry: --number: there is no dead letter 4711\n", got.stderr)

		b := startBroker(t, brokertest.Options{})
		require.Equal(t, exitDone, runOnce(t, command("relay", "--once", "-L", b.URL(), "--store", url)).code)
		require.Equal(t, []string{"\xff\x00\x01", "text"}, payloads(b, "mended"), "in the order of their numbers")
		require.Equal(t, []string{"payload 0"}, payloads(b, "refused/a"))

		require.Equal(t, `{"purged":0}`+"\n", dead(exitDone, "purge", "--older-than", "10h", "--json").stdout)
		require.Equal(t, "purged 1\n", dead(exitDone, "purge", "--topic", "refused/#").stdout)
		require.Equal(t, "purged 1\n", dead(exitDone, "purge", "--all").stdout)
		require.Empty(t, list())
	})
}

// TestDeadFull: an outbox without room takes what fits, and the rest stays.
func TestDeadFull(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, url string) {
		t.Helper()
		url = withQuery(url, "max_messages=3")
		store, err := openURL(t.Context(), url)
		require.NoError(t, err)
		defer func() { require.NoError(t, store.Close(t.Context())) }()
		var letters []persist.DeadLetter
		for i := range 5 {
			letters = append(letters, persist.DeadLetter{
				Side: persist.SideOutbox, State: persist.StateFailed,
				Message: persist.Message{ID: fmt.Sprint("m-", i), Topic: "t", QoS: 1},
			})
		}
		letters[1].Message.Payload = make([]byte, maxPayload+1)
		require.NoError(t, store.AddDeadLetters(t.Context(), letters))
		got := runOnce(t, command("dead", "retry", "--store", url))
		require.Equal(t, exitFailed, got.code)
		require.Equal(t, "oncemq dead retry: the outbox is full: 3 letters were moved, the others stay; let a relay drain it\n", got.stderr)
		require.Contains(t, got.stdout, "refused: invalid message: payload: 1048577 bytes are over the limit of 1048576\n")
		require.Equal(t, 3, strings.Count(got.stdout, " goes to t\n"))
		got = runOnce(t, command("dead", "list", "--json", "--store", url))
		require.Len(t, numbersOf(t, got.stdout), 2)
	})
}

func TestDeadBadInput(t *testing.T) {
	t.Parallel()
	store := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "b", "--no-wait")).code)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"dead", "lst"}, `oncemq dead: there is no command "lst"; did you mean list?`},
		{[]string{"dead", "list", "--side", "both"}, `oncemq dead list: --side: "both" is not a choice; use outbox or consumer`},
		{[]string{"dead", "list", "--side", "outbox", "--group", "g"}, "oncemq dead list: --group: cannot stand beside --side outbox; only consumers have groups"},
		{[]string{"dead", "list", "--reason-code", "256"}, "oncemq dead list: --reason-code: 256 is not a reason code; use 0 to 255, or 0x00 to 0xFF"},
		{[]string{"dead", "list", "--number", "0"}, "oncemq dead list: --number: 0 is not the number of a dead letter; oncemq dead list shows them"},
		{[]string{"dead", "list", "--older-than", "0"}, "oncemq dead list: --older-than: is no time; use 1ms or more"},
		{[]string{"dead", "list", "7"}, "oncemq dead list: unexpected argument 7; every value belongs to an option, such as -t TOPIC"},
		{[]string{"dead", "show"}, "oncemq dead show: the NUMBER of a dead letter is missing; oncemq dead list shows them"},
		{[]string{"dead", "show", "x"}, `oncemq dead show: "x" is not the number of a dead letter; oncemq dead list shows them`},
		{[]string{"dead", "show", "1", "2"}, "oncemq dead show: unexpected argument 2; one NUMBER is enough"},
		{[]string{"dead", "show", "1", "--json", "-o", "raw"}, "oncemq dead show: --json: cannot stand beside --output raw"},
		{[]string{"dead", "purge"}, "oncemq dead purge: nothing says which letters to delete; give one of --side, --group, --topic, --reason-code, --number, --older-than, or --all"},
		{[]string{"dead", "purge", "--limit", "5"}, "oncemq dead purge: nothing says which letters to delete; give one of --side, --group, --topic, --reason-code, --number, --older-than, or --all"},
		{[]string{"dead", "purge", "--all", "--group", "g"}, "oncemq dead purge: --all: cannot stand beside an option that chooses letters"},
		{[]string{"dead", "retry", "--set-property", "x"}, `oncemq dead retry: --set-property: "x" has no value; write NAME=VALUE`},
		{[]string{"dead", "retry", "--remove-property", ""}, "oncemq dead retry: --remove-property: is empty; name a user property"},
	} {
		got := runOnce(t, command(append(c.args, "--store", store)...))
		require.Equal(t, exitUsage, got.code, "%v: %s", c.args, got.stderr)
		first, _, _ := strings.Cut(got.stderr, "\n")
		require.True(t, strings.HasPrefix(first, c.want), "%v: %s", c.args, got.stderr)
		require.Empty(t, got.stdout)
	}
	got := runOnce(t, command("dead"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "oncemq dead: a command is missing; there are list, show, retry and purge")
	got = runOnce(t, command("dead", "retry", "--to-topic", "a/#", "--store", store))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "--to-topic: ")
	got = runOnce(t, command("dead", "retry", "--set-property", "message-id=x", "--store", store))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, `"message-id" is oncemq's own, and stays as it is`)
	for _, name := range []string{"list", "retry"} {
		got := runOnce(t, command("dead", name, "--store", "sqlite://"+t.TempDir()+"/missing.db"))
		require.Equal(t, exitStore, got.code)
		require.Contains(t, got.stderr, "there is no store at")
	}
}
