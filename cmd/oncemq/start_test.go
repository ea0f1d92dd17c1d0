package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// TestStart: what chaos and qos have to show begins within a second of their start: that
// is when the broker has their first message. The best of a few starts counts, for a busy
// machine can hold up any of them.
func TestStart(t *testing.T) {
	t.Parallel()
	const (
		bound  = time.Second
		starts = 10
	)
	for _, args := range []string{"chaos run cut --broker", "qos --broker"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			best := time.Hour
			for range starts {
				first := make(chan time.Time, 1)
				b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
					if d == brokertest.In && p.Type == brokertest.PUBLISH {
						select {
						case first <- time.Now():
						default:
						}
					}
					return brokertest.Pass
				}})
				cmd := oncemq(t, append(strings.Fields(args), b.URL())...)
				cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir()) // chaos is killed, and leaves a folder
				began := time.Now()
				p := testenv.Start(t, cmd)
				select {
				case at := <-first:
					best = min(best, at.Sub(began))
				case <-p.Done():
				case <-within(t, time.Minute).Done():
				}
				p.Kill()
				if best < bound {
					break
				}
			}
			t.Logf("first message after %s", best)
			require.Less(t, best, bound)
		})
	}
}
