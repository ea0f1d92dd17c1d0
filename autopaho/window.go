package autopaho

import (
	"fmt"
	"time"

	"github.com/oncemq/oncemq/dedup"
)

// LeastWindow is the shortest Window that goes with a session that the broker
// keeps for sessionExpiry: for that long it may hold a message back, and then the
// handler may be at it for all its attempts, the longest waits between them, and
// HandlerTimeout each, with the second after which it is left behind. With a shorter window such a message would come when its
// key is forgotten, and be given up as too old.
//
// A session that is kept for ever has no such window; the answer is the longest
// that there is.
func (s *SubscribeConfig) LeastWindow(sessionExpiry time.Duration) time.Duration {
	attempts := s.Attempts
	if attempts == 0 {
		attempts = defaultAttempts
	}
	const each = 100 // waits that are added up; the others count as the longest
	var retries float64
	if s.HandlerTimeout > 0 {
		retries = float64(attempts) * float64(s.HandlerTimeout+handlerGrace)
	}
	for i := 1; i < min(attempts, each); i++ {
		retries += float64(s.Backoff.Ceiling(i))
	}
	retries += float64(max(0, attempts-each)) * float64(s.Backoff.Ceiling(attempts))
	return time.Duration(min(float64(sessionExpiry)+retries, float64(dedup.MaxWindow)))
}

// window is the Window in force.
func (s *SubscribeConfig) window(client *Config) time.Duration {
	if s.Window != 0 {
		return s.Window
	}
	least := s.LeastWindow(client.subscriberExpiry())
	return min(max(dedup.DefaultWindow, (least+time.Hour-1).Truncate(time.Hour)), dedup.MaxWindow)
}

// checkWindow tells what is wrong with a Window that is shorter than a message
// may be on its way. At QoS 0, or if the session ends with its connection, the
// broker keeps nothing.
func (s *SubscribeConfig) checkWindow(client *Config) error {
	expiry := client.subscriberExpiry()
	if s.Group == "" || client.Store == nil || s.AtMostOnce || expiry == 0 || s.Window == 0 {
		return nil
	}
	least := s.LeastWindow(expiry)
	if s.Window >= least {
		return nil
	}
	return fmt.Errorf("%s is shorter than Config.SessionExpiry, %s, and the handler's retries: a message could come "+
		"when its key is forgotten; use %s or more, or a shorter SessionExpiry",
		s.Window, expiry, (least + time.Second - 1).Truncate(time.Second))
}
