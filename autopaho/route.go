package autopaho

import (
	"hash/fnv"
	"slices"
	"time"

	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/qos"
)

// received routes what the broker sent. It is called by the link's reader.
func (in *consumer) received(batch []*session.Delivery) {
	if len(batch) == 0 {
		return
	}
	failpoint.Hit(failpoint.ConsumerAfterReceive)
	counters := in.client.status.counters
	in.pulse.beat(time.Now())
	defer in.pulse.rest()
	in.routing.Lock()
	defer in.routing.Unlock()
	for _, del := range batch {
		counters.received.Add(1)
		if del.Dup {
			counters.redelivered.Add(1)
		}
		in.client.event(Event{Kind: EventMessage, ClientID: in.board.clientID, MessageID: del.Message.ID, Topic: del.Message.Topic})
	}
	in.deal(batch)
}

// dealHeld deals out what was kept, of which a new subscription may be what it waited
// for. in.routing is held.
func (in *consumer) dealHeld() {
	if in.gathering > 0 {
		return
	}
	in.mu.Lock()
	again := in.unrouted
	in.unrouted = nil
	subs, closed := in.subs, in.closed
	in.mu.Unlock()
	if closed {
		return // not acknowledged: they come again
	}
	now := time.Now()
	for _, u := range again {
		if !route(subs, u.del, now) {
			in.hold(u)
		}
	}
}

// gather keeps what comes until n more subscriptions are there, each of which is told
// by a call of gathered: those that a message is for get it all.
func (in *consumer) gather(n int) {
	in.routing.Lock()
	in.gathering += n
	in.routing.Unlock()
}

func (in *consumer) gathered() {
	in.routing.Lock()
	in.gathering--
	in.dealHeld()
	in.routing.Unlock()
}

// deal hands messages to subscriptions, and keeps those that none wants. in.routing is
// held.
func (in *consumer) deal(batch []*session.Delivery) {
	in.mu.Lock()
	subs, closed := in.subs, in.closed
	in.mu.Unlock()
	if closed {
		return // not acknowledged: they come again
	}
	now := time.Now()
	for _, del := range batch {
		if in.gathering > 0 || !route(subs, del, now) {
			in.hold(unrouted{del: del})
		}
	}
}

// route hands a message to the subscriptions that it is for: those that its
// subscription identifiers name, if their filters agree, and those that have a filter
// of theirs as well, since of two subscriptions to a filter the broker knows the
// identifier of the last. Else, as of filters of an earlier process, to those whose
// filters match.
func route(subs []*Subscription, del *session.Delivery, now time.Time) bool {
	var first candidate
	var more []candidate
	pick := func(s *Subscription, by *filterCounters) {
		if first.sub == nil {
			first = candidate{s, by}
		} else {
			more = append(more, candidate{s, by})
		}
	}
	for _, id := range del.SubscriptionIDs {
		for _, named := range subs {
			if named.id != int(id) {
				continue
			}
			for _, s := range subs {
				if s != named && !s.sharesFilter(named, del.Message.Topic) || picked(first, more, s) {
					continue
				}
				if by := s.match(del.Message.Topic); by != nil {
					pick(s, by)
				}
			}
		}
	}
	if first.sub == nil {
		for _, s := range subs {
			if by := s.match(del.Message.Topic); by != nil {
				pick(s, by)
			}
		}
	}
	if first.sub == nil {
		return false
	}
	share := newShare(del, 1+len(more))
	first.sub.take(del, share, first.by, now)
	for _, c := range more {
		c.sub.take(del, share, c.by, now)
	}
	return true
}

func picked(first candidate, more []candidate, s *Subscription) bool {
	return first.sub == s || slices.ContainsFunc(more, func(c candidate) bool { return c.sub == s })
}

// subscriptionID chooses the Subscription Identifier of a subscription: made of its filters,
// so that what an earlier process's subscription was sent names the one that has the
// same filters now, and none that has others.
func subscriptionID(subs []*Subscription, s *Subscription) int {
	h := fnv.New32a()
	for _, f := range s.wireFilters {
		_, _ = h.Write(append([]byte(f), 0)) // it has no errors
	}
	const most = 268_435_455 // section 3.8.2.1.2
	id := int(h.Sum32()%most) + 1
	for slices.ContainsFunc(subs, func(o *Subscription) bool { return o.id == id && !slices.Equal(o.wireFilters, s.wireFilters) }) {
		id = id%most + 1
	}
	return id
}

func filtersOf(subs []session.Subscription) []string {
	filters := make([]string, len(subs))
	for i := range subs {
		filters[i] = subs[i].Filter
	}
	return filters
}

// sharesFilter tells whether the broker has one subscription for both, which a topic
// matches.
func (s *Subscription) sharesFilter(other *Subscription, topic string) bool {
	for i, f := range s.wireFilters {
		if slices.Contains(other.wireFilters, f) && qos.Match(s.cfg.Filters[i], topic) {
			return true
		}
	}
	return false
}

// candidate is a subscription that a message is for, and the filter that says so.
type candidate struct {
	sub *Subscription
	by  *filterCounters
}
