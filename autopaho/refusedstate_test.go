package autopaho_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// A state that is refused for now while a newer one of its topic is in flight is not
// sent again. It was, after the newer one, so that the old state was the last that the
// broker had heard, and kept if it was retained.
func TestRefusedStateGivesWayToTheNewerInFlight(t *testing.T) {
	t.Parallel()
	for _, newerFirst := range []bool{false, true} {
		name := "the older is answered first"
		if newerFirst {
			name = "the newer is answered first"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, time.Minute)
			l := brokertest.Listen(t)
			c := client(t, autopaho.Config{
				Servers: []string{l.URL()}, Store: memoryStore(t),
				Policies: qos.Policies{Default: qos.Policy{Backoff: qos.Backoff{Initial: time.Millisecond, Max: time.Millisecond}}},
			})
			send := func(payload string) *autopaho.Enqueued {
				q, err := c.Enqueue(ctx, autopaho.Message{Topic: "door", Payload: []byte(payload), Supersede: true})
				require.NoError(t, err)
				return q
			}
			older := send("open")
			conn := l.Accept(ctx)
			conn.Handshake()
			olderID := conn.ExpectPublish(brokertest.HasPayload("open")).PacketID
			newer := send("shut")
			newerID := conn.ExpectPublish(brokertest.HasPayload("shut")).PacketID
			if newerFirst {
				conn.SendPuback(newerID, 0)
				require.NoError(t, waitOneErr(t, ctx, newer))
			}
			conn.SendPuback(olderID, 0x97)
			requireEnded(t, waitOne(t, ctx, older), persist.StateSuperseded, "newer message")
			// One that is refused and has no newer one is sent again.
			alone := send("locked")
			aloneID := conn.ExpectPublish(brokertest.HasPayload("locked")).PacketID
			if !newerFirst {
				conn.SendPuback(newerID, 0)
				require.NoError(t, waitOneErr(t, ctx, newer))
			}
			conn.SendPuback(aloneID, 0x97)
			conn.SendPuback(conn.ExpectPublish(brokertest.HasPayload("locked")).PacketID, 0)
			require.NoError(t, waitOneErr(t, ctx, alone))
			require.EqualValues(t, 1, c.Counters().Superseded)
			closed := make(chan error, 1)
			go func() { closed <- c.Close(ctx) }()
			conn.ExpectDisconnect() // and no PUBLISH before it
			conn.Close()
			require.NoError(t, <-closed)
		})
	}
}
