package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// TestACLChanges: a topic becomes forbidden while a relay is at work, and is allowed
// again later (P13). What is refused meanwhile becomes dead letters, the other topic
// flows over the same connection, and dead retry brings the letters back in order.
func TestACLChanges(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"1", "2"} {
		t.Run("QoS "+level, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, time.Minute)
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{ACL: []string{"topic readwrite #"}})
			heard := mosquittoSub(t, m, "-t", "a", "-t", "b", "-q", level, "-F", "=%t %p")
			store := fileStore(t)
			relay := testenv.Start(t, oncemq(t, "relay", "-L", m.URL(), "--store", store))
			put := func(topic string, from, to int) {
				t.Helper()
				for i := from; i <= to; i++ {
					got := runOnce(t, command("pub", "--store", store, "--no-wait", "-t", topic, "-q", level, "-m", fmt.Sprint(i)))
					require.Equal(t, exitDone, got.code, got.stderr)
				}
			}
			last := func(line string) {
				t.Helper()
				_, err := heard.Stdout.WaitFor(ctx, func(l string) bool { return l == line })
				require.NoError(t, err, relay.Stderr.String())
			}
			// on tells which payloads of a topic have come.
			on := func(topic string) (all []string) {
				for _, line := range heard.Stdout.Lines() {
					if payload, ok := strings.CutPrefix(line, "="+topic+" "); ok {
						all = append(all, payload)
					}
				}
				return all
			}
			// become waits until the server goes by its new ACL.
			become := func(code int, acl ...string) {
				t.Helper()
				m.SetACL(acl...)
				for {
					got := runOnce(t, command("pub", "-L", m.URL(), "--store", "memory:", "-t", "b/probe", "-q", "1", "-m", "x"))
					if got.code == code {
						return
					}
					require.NoError(t, ctx.Err(), got.stderr)
				}
			}
			letters := func() string {
				t.Helper()
				got := runOnce(t, command("dead", "list", "--store", store, "--json"))
				require.Equal(t, exitDone, got.code, got.stderr)
				return got.stdout
			}

			put("b", 1, 2)
			last("=b 2")
			become(exitRefused, "topic readwrite a", "topic read b", "topic read b/probe")
			put("b", 3, 5)
			put("a", 1, 2)
			put("b", 6, 7)
			put("a", 3, 3)
			last("=a 3")
			require.Equal(t, []string{"1", "2", "3"}, on("a"))
			for strings.Count(letters(), `"reason_code":135`) < 5 {
				require.NoError(t, ctx.Err(), letters())
			}
			require.Equal(t, 5, strings.Count(letters(), "\n"))
			require.Equal(t, []string{"1", "2"}, on("b"))

			become(exitDone, "topic readwrite #")
			put("b", 8, 8) // is not held up by what is dead
			last("=b 8")
			got := runOnce(t, command("dead", "retry", "--store", store, "--topic", "b"))
			require.Equal(t, exitDone, got.code, got.stderr)
			last("=b 7")
			require.Equal(t, []string{"1", "2", "8", "3", "4", "5", "6", "7"}, on("b"))
			require.Empty(t, letters())
			relay.Terminate()
			require.Equal(t, exitDone, relay.Wait(10*time.Second))
			require.NotContains(t, relay.Stderr.String(), "connect", "one connection all along")
			pending := runOnce(t, command("outbox", "list", "--store", store))
			require.Equal(t, exitDone, pending.code, pending.stderr)
			require.Empty(t, pending.stdout)
		})
	}
}
