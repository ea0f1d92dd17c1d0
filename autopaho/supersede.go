package autopaho

import (
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// states knows, by key, the messages that supersede and that the lane has handed out
// and that have not ended. drain.mu guards it.
type states map[string]state

// state is how many there are of one key, and the position of the newest that there
// was among them.
type state struct {
	out    int
	newest int64
}

func (s states) add(o *session.Outgoing) {
	if o.Message.Supersede {
		was := s[o.Message.Key()]
		s[o.Message.Key()] = state{was.out + 1, max(was.newest, o.Ref.Position)}
	}
}

// over takes note that a message has ended.
func (s states) over(o *session.Outgoing) {
	if !o.Message.Supersede {
		return
	}
	key := o.Message.Key()
	is := s[key]
	if is.out--; is.out <= 0 {
		delete(s, key)
		return
	}
	s[key] = is
}

// outdated tells of a message that has not ended whether there is a newer one of its
// key that takes its place, in flight or even delivered.
func (s states) outdated(o *session.Outgoing) bool {
	return o.Message.Supersede && o.Ref.Position < s[o.Message.Key()].newest
}

// supersede ends the messages of the queue that a newer one of their key there takes
// the place of [OUTBOX-16]: the store leaves that to who has read them. One that an
// earlier holder has sent is on its way. d.mu is held.
func (d *drain) supersede() {
	newest := make(map[string]int64)
	for _, o := range d.queue.fresh[d.queue.head:] {
		if o.Message.Supersede {
			newest[o.Message.Key()] = max(newest[o.Message.Key()], o.Ref.Position)
		}
	}
	for _, o := range d.queue.remove(func(o *session.Outgoing) bool {
		return o.Message.Supersede && o.Ref.Position < newest[o.Message.Key()] && !d.begun[o.Ref.Position]
	}) {
		d.end(o, persist.Settlement{Outcome: persist.OutcomeSuperseded, Reason: persist.ReasonSuperseded})
	}
}
