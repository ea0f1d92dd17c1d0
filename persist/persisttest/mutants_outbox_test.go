package persisttest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// change returns the messages after a change to each.
func change(msgs []persist.Message, f func(m *persist.Message)) []persist.Message {
	msgs = slices.Clone(msgs)
	for i := range msgs {
		f(&msgs[i])
	}
	return msgs
}

// enqueueing is a mutant that changes messages on their way in.
func enqueueing(f func(m *persist.Message)) func(b *bent) {
	return func(b *bent) {
		b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
			return b.Store.Enqueue(ctx, change(msgs, f))
		}
	}
}

// handing is a mutant that changes what Next hands out.
func handing(f func(l *bentLane, entries []persist.Entry) []persist.Entry) func(b *bent) {
	return func(b *bent) {
		b.lane = func(l *bentLane) {
			l.next = func(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
				entries, err := l.Lane.Next(ctx, limit, maxBytes)
				return f(l, entries), err
			}
		}
	}
}

func outboxMutants() []mutant {
	return []mutant{
		{name: "forgets the last of many", caught: []string{"OUTBOX-1", "Enqueue"}, model: true, bend: func(b *bent) {
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				if len(msgs) < 2 {
					return b.Store.Enqueue(ctx, msgs)
				}
				places, err := b.Store.Enqueue(ctx, msgs[:len(msgs)-1])
				if err != nil {
					return nil, err
				}
				next := places[len(places)-1]
				next.Position++
				return append(places, next), nil
			}
		}},
		{name: "cuts the payload at NUL", caught: []string{"OUTBOX-1"}, bend: enqueueing(func(m *persist.Message) {
			m.Payload, _, _ = bytes.Cut(m.Payload, []byte{0})
		})},
		{name: "keeps user properties in a map", caught: []string{"OUTBOX-1"}, bend: enqueueing(func(m *persist.Message) {
			names := make(map[string]bool)
			m.Properties.User = slices.DeleteFunc(slices.Clone(m.Properties.User), func(p persist.UserProperty) bool {
				seen := names[p.Name]
				names[p.Name] = true
				return seen
			})
		})},
		{name: "forgets the receipt flag", caught: []string{"OUTBOX-1", "OUTBOX-12"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Receipt = false
		})},
		{name: "forgets the expiry", caught: []string{"OUTBOX-1", "Enqueue"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Expiry = 0
		})},
		{name: "loses all at a restart", caught: []string{
			"OUTBOX-1", "OUTBOX-4", "OUTBOX-5", "Settle", "LEASE-1", "CLAIM-1", "Claim", "Session", "DEAD-1", "Admin", "Store",
		}, durable: true, model: true, bend: func(b *bent) {
			b.close = func(context.Context) error { return nil }
			b.p.keep = false
		}},
		{name: "survives a restart against its word", caught: []string{"OUTBOX-1"}, bend: func(b *bent) {
			b.close = func(context.Context) error { return nil }
			b.p.keep, b.p.store = true, b
		}},
		{name: "stores in reverse", caught: []string{"OUTBOX-2", "OUTBOX-5"}, model: true, bend: func(b *bent) {
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				msgs = slices.Clone(msgs)
				slices.Reverse(msgs)
				places, err := b.Store.Enqueue(ctx, msgs)
				slices.Reverse(places)
				return places, err
			}
		}},
		{name: "gives positions out again once the lane is empty", caught: []string{"OUTBOX-2"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					err := l.Lane.Settle(ctx, settlements)
					if stats, _ := b.Store.Stats(ctx); err == nil && stats.Pending+stats.Delivered == 0 {
						b.Store = memory.New(memory.Options{Lanes: b.p.opts.Lanes, Clock: b.p.time})
						b.enqueue, b.list, b.lookup = b.Store.Enqueue, b.Store.ListOutbox, b.Store.Lookup
					}
					return err
				}
			}
		}},
		{name: "stores one by one", caught: []string{"OUTBOX-3", "OUTBOX-9"}, model: true, bend: func(b *bent) {
			b.enqueue = func(ctx context.Context, msgs []persist.Message) (places []persist.Enqueued, err error) {
				for _, m := range msgs {
					place, err := b.Store.Enqueue(ctx, []persist.Message{m})
					if err != nil {
						return nil, err
					}
					places = append(places, place...)
				}
				return places, nil
			}
		}},
		{name: "stores all in lane 0", caught: []string{"Enqueue"}, model: true, bend: enqueueing(func(m *persist.Message) {
			for i := 0; persist.LaneOf(m.Key(), 5) != 0 || persist.LaneOf(m.Key(), 2) != 0 || persist.LaneOf(m.Key(), 3) != 0; i++ {
				m.OrderingKey = fmt.Sprint("lane 0, try ", i)
			}
		})},
		{name: "stores duplicates", caught: []string{"OUTBOX-4", "DEAD-3"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Idempotent = false
		})},
		{name: "takes every message for idempotent", caught: []string{"OUTBOX-4"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Idempotent = true
		})},
		{name: "has no limit", caught: []string{"OUTBOX-9"}, model: true, bend: func(b *bent) {
			b.Store = memory.New(memory.Options{Lanes: b.p.opts.Lanes, Clock: b.p.time})
			whole := b.Store
			b.enqueue, b.acquire, b.stats, b.list = whole.Enqueue, whole.AcquireLane, whole.Stats, whole.ListOutbox
			b.retry, b.letters, b.lookup = whole.RetryDeadLetters, whole.ListDeadLetters, whole.Lookup
		}},
		{name: "drops what is not droppable", caught: []string{"OUTBOX-9"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Droppable = true
		})},
		{name: "drops nothing", caught: []string{"OUTBOX-9"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Droppable = false
		})},
		{name: "does not count drops", caught: []string{"OUTBOX-9"}, model: true, bend: func(b *bent) {
			b.stats = func(ctx context.Context) (persist.Stats, error) {
				stats, err := b.Store.Stats(ctx)
				stats.Dropped = 0
				return stats, err
			}
		}},
		{name: "ignores the delay", caught: []string{"OUTBOX-5", "OUTBOX-6"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Delay = 0
		})},
		{name: "hands out in reverse", caught: []string{"OUTBOX-5"}, model: true, bend: handing(func(_ *bentLane, entries []persist.Entry) []persist.Entry {
			slices.Reverse(entries)
			return entries
		})},
		{name: "hands the first of a page out twice", caught: []string{"OUTBOX-6", "OUTBOX-7"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				var again []persist.Entry
				l.next = func(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
					entries, err := l.Lane.Next(ctx, limit, maxBytes)
					entries, again = append(again, entries...), slices.Clone(entries[:min(1, len(entries))])
					return entries[:min(limit, len(entries))], err
				}
			}
		}},
		// A reader that remembers the highest position it has seen.
		{name: "pages by position", caught: []string{"OUTBOX-5", "OUTBOX-6"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				last := int64(0)
				l.next = func(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
					entries, err := l.Lane.Next(ctx, limit, maxBytes)
					entries = slices.DeleteFunc(entries, func(e persist.Entry) bool { return e.Position <= last })
					if n := len(entries); n > 0 {
						last = entries[n-1].Position
					}
					return entries, err
				}
			}
		}},
		{name: "skips one of fifty", caught: []string{"OUTBOX-7", "Enqueue"}, bend: func(b *bent) {
			var n atomic.Int64
			handing(func(_ *bentLane, entries []persist.Entry) []persist.Entry {
				return slices.DeleteFunc(entries, func(persist.Entry) bool { return n.Add(1)%50 == 0 })
			})(b)
		}},
		{name: "does not hand out again to the next holder", caught: []string{"OUTBOX-6", "LEASE-3"}, model: true, bend: func(b *bent) {
			handed := make(map[persist.Ref]bool)
			handing(func(_ *bentLane, entries []persist.Entry) []persist.Entry {
				return slices.DeleteFunc(entries, func(e persist.Entry) bool {
					seen := handed[e.Ref]
					handed[e.Ref] = true
					return seen
				})
			})(b)
		}},
		{name: "reads every page into one buffer", caught: []string{"Next"}, bend: func(b *bent) {
			buffer := make([]byte, 8<<20)
			handing(func(_ *bentLane, entries []persist.Entry) []persist.Entry {
				rest := buffer
				for i := range entries {
					n := copy(rest, entries[i].Message.Payload)
					entries[i].Message.Payload, rest = rest[:n], rest[n:]
				}
				return entries
			})(b)
		}},
		{name: "keeps the caller's slice", caught: []string{"Next"}, bend: func(b *bent) {
			var last []persist.Message
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				last = msgs
				return b.Store.Enqueue(ctx, msgs)
			}
			handing(func(_ *bentLane, entries []persist.Entry) []persist.Entry {
				for i := range entries {
					if i < len(last) {
						entries[i].Message = last[i]
					}
				}
				return entries
			})(b)
		}},
		{name: "ignores the limit in bytes", caught: []string{"Next"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.next = func(ctx context.Context, limit, _ int) ([]persist.Entry, error) {
					return l.Lane.Next(ctx, limit, 1<<40)
				}
			}
		}},
		{name: "hands out only what fits", caught: []string{"Next"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.next = func(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
					entries, err := l.Lane.Next(ctx, limit, maxBytes)
					if len(entries) > 0 && len(entries[0].Message.Payload) > maxBytes {
						return nil, err
					}
					return entries, err
				}
			}
		}},
		{name: "reports the whole expiry", caught: []string{"Enqueue"}, model: true, bend: func(b *bent) {
			expiry := make(map[string]time.Duration)
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				for _, m := range msgs {
					expiry[m.ID] = m.Expiry
				}
				return b.Store.Enqueue(ctx, msgs)
			}
			whole := func(entries []persist.Entry) {
				for i := range entries {
					entries[i].Message.Expiry = expiry[entries[i].Message.ID]
				}
			}
			b.list = func(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
				entries, err := b.Store.ListOutbox(ctx, req)
				whole(entries)
				return entries, err
			}
		}},
		{name: "takes no time left for ever", caught: []string{"Enqueue"}, bend: func(b *bent) {
			b.list = func(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
				entries, err := b.Store.ListOutbox(ctx, req)
				for i := range entries {
					entries[i].Message.Expiry = max(entries[i].Message.Expiry, 0)
				}
				return entries, err
			}
		}},
		{name: "accepts any message", caught: []string{"Arguments", "OUTBOX-3"}, bend: enqueueing(func(m *persist.Message) {
			if m.ID == "" || len(m.ID) > persist.MaxMessageID {
				m.ID = fmt.Sprint("made up ", len(m.ID))
			}
			if m.Topic == "" {
				m.Topic = "t"
			}
			m.QoS = min(m.QoS, 2)
			m.Expiry, m.Delay, m.MaxAttempts = max(m.Expiry, 0), max(m.Delay, 0), max(m.MaxAttempts, 0)
		})},
	}
}
