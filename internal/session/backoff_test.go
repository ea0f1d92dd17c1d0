package session

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// attempts runs a simulated outage and counts the attempts of each minute: every
// connection is accepted, and ended by the server after uptime.
func attempts(minutes int, uptime time.Duration, end func(r *reconnect)) []int {
	r := newReconnect(backoffBase)
	now := time.Now()
	began := now
	counts := make([]int, minutes)
	for {
		now = now.Add(r.next(now))
		minute := int(now.Sub(began) / time.Minute)
		if minute >= minutes {
			return counts
		}
		counts[minute]++
		now = now.Add(uptime)
		end(r)
	}
}

// autopaho starts its back-off over with every CONNACK: a broker that accepted
// and dropped was asked hundreds of times in two seconds.
func TestAcceptThenDropIsNotHammered(t *testing.T) {
	t.Parallel()
	useless := func(r *reconnect) { r.ended(time.Millisecond, false) }
	for range 20 {
		counts := attempts(10, time.Millisecond, useless)
		require.Less(t, counts[0], 150, "%v", counts)
		for _, n := range counts[2:] {
			require.Less(t, n, 30, "%v", counts)
			require.Positive(t, n, "%v", counts)
		}
	}
}

// The first attempt of all does not wait, and neither does, to speak of, the
// first after a connection that was of use.
func TestReconnectAfterUsefulWorkIsQuick(t *testing.T) {
	t.Parallel()
	for range 100 {
		r := newReconnect(backoffBase)
		now := time.Now()
		require.Zero(t, r.next(now))
		for range 50 { // a long outage
			now = now.Add(time.Minute)
			r.next(now)
		}
		r.ended(time.Millisecond, true)
		require.LessOrEqual(t, r.next(time.Now()), backoffBase)
		for range 50 {
			r.next(now)
		}
		r.ended(stableUptime, false)
		require.LessOrEqual(t, r.next(time.Now()), backoffBase)
	}
}

// A server that says that it is too much for it gets a second at least, and
// more each time, also if it did some work in between.
func TestServerUnderPressureIsLeftAlone(t *testing.T) {
	t.Parallel()
	counts := attempts(5, time.Millisecond, func(r *reconnect) { r.pressed() })
	require.Less(t, counts[0], 55, "%v", counts)
	require.Less(t, counts[4], 30, "%v", counts)
	r := newReconnect(backoffBase)
	r.next(time.Now())
	r.pressed()
	require.GreaterOrEqual(t, r.next(time.Now()), time.Second)
	r.ended(time.Hour, true)
	require.LessOrEqual(t, r.next(time.Now()), backoffBase)

	for code := range 256 {
		want := false
		switch code {
		case 0x89, 0x96, 0x97, 0x9C, 0x9D, 0x9F:
			want = true
		}
		require.Equal(t, want, tooMuch(&DisconnectError{Code: byte(code)}), "0x%02X", code)
	}
	require.False(t, tooMuch(errors.New("lost")))
}

// The same with a link: connections that are accepted and dropped, that a
// server ends because it is busy though it took a message first, or that we end
// because of what it sends, are all made again ever more slowly.
func TestLinkBacksOff(t *testing.T) {
	t.Parallel()
	const base = 20 * time.Millisecond
	for name, test := range map[string]struct {
		script func(c *brokertest.Conn)
		least  time.Duration // of eight connections, by far less than what is likely
	}{
		"accept then drop": {func(c *brokertest.Conn) { c.Reset() }, 2 * base},
		"busy after work": {func(c *brokertest.Conn) {
			c.SendPublish(publish(0, 0, "work"))
			c.SendDisconnect(0x89)
			c.ExpectClosed()
		}, 7 * pressedFactor * base},
		"malformed after work": {func(c *brokertest.Conn) {
			c.SendPublish(publish(0, 0, "work"))
			c.SendRaw([]byte{0x30, 0})
			c.ExpectDisconnect()
		}, 2 * base},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL(), func(c *Config) { c.backoff = base })
			began := time.Now()
			for range 8 {
				c := l.Accept(t.Context())
				c.Handshake()
				test.script(c)
				c.Close()
			}
			require.Greater(t, time.Since(began), test.least)
			if name == "malformed after work" {
				_ = p.down(7)
				p.link.Drop()
				require.NoError(t, p.link.Close(within(t, patience)))
				require.Greater(t, p.link.retry.tries, 7, "it counts as one outage")
			}
		})
	}
}

// A server that is back after up to half a minute is noticed soon: half of the
// times within 0.3 s, 99 of 100 times within 1.5 s.
func TestRecoveryTime(t *testing.T) {
	t.Parallel()
	const outages = 5000
	waits := make([]time.Duration, outages)
	for i := range waits {
		r := newReconnect(backoffBase)
		r.next(time.Now())
		r.ended(time.Minute, true)
		now := r.since
		back := now.Add(eagerPeriod * time.Duration(i+1) / outages)
		for now.Before(back) {
			now = now.Add(r.next(now))
		}
		waits[i] = now.Sub(back)
	}
	slices.Sort(waits)
	t.Logf("median %s, 99th percentile %s, longest %s", waits[outages/2], waits[outages*99/100], waits[outages-1])
	require.LessOrEqual(t, waits[outages/2], 270*time.Millisecond) // the rest of 0.3 s is for the connection
	require.LessOrEqual(t, waits[outages*99/100], 1200*time.Millisecond)
}
