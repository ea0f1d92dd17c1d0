package persisttest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/oncemq/oncemq/persist"
)

// otherMutants have defects of sessions, dead letters, of what operators see
// and of the store as a whole.
func otherMutants() []mutant {
	return slices.Concat(sessionMutants(), deadLetterMutants(), adminMutants(), storeMutants())
}

func sessionMutants() []mutant {
	return []mutant{
		{name: "loading raises no epoch", caught: []string{"SESSION-1"}, model: true, bend: func(b *bent) {
			b.load = func(ctx context.Context, clientID string, _ int64) ([]persist.PacketState, error) {
				return b.Store.LoadSession(ctx, clientID, math.MinInt64)
			}
			b.save = func(ctx context.Context, session persist.Session) error {
				session.Epoch = math.MinInt64
				return b.Store.SaveSession(ctx, session)
			}
		}},
		{name: "whoever saves is let in", caught: []string{"SESSION-1", "SESSION-3"}, model: true, bend: func(b *bent) {
			b.save = func(ctx context.Context, session persist.Session) error {
				session.Epoch = max(session.Epoch, 1<<40)
				return b.Store.SaveSession(ctx, session)
			}
			b.load = func(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
				return b.Store.LoadSession(ctx, clientID, max(epoch, 1<<40))
			}
		}},
		{name: "adds to what there is", caught: []string{"SESSION-2"}, model: true, bend: func(b *bent) {
			b.save = func(ctx context.Context, session persist.Session) error {
				known, err := b.Store.LoadSession(ctx, session.ClientID, session.Epoch)
				if err != nil {
					return err
				}
				session.States = slices.Concat(slices.DeleteFunc(known, func(p persist.PacketState) bool {
					return slices.ContainsFunc(session.States, func(s persist.PacketState) bool { return s.PacketID == p.PacketID })
				}), session.States)
				return b.Store.SaveSession(ctx, session)
			}
		}},
		{name: "saves what is left of a bad session", caught: []string{"SESSION-2"}, bend: func(b *bent) {
			b.save = func(ctx context.Context, session persist.Session) error {
				err := b.Store.SaveSession(ctx, session)
				if errors.Is(err, persist.ErrInvalid) {
					session.States = session.States[:1]
					return errors.Join(err, b.Store.SaveSession(ctx, session))
				}
				return err
			}
		}},
		{name: "knows one direction", caught: []string{"SESSION-2"}, bend: func(b *bent) {
			b.save = func(ctx context.Context, session persist.Session) error {
				var states []persist.PacketState
				for _, p := range session.States {
					if !slices.ContainsFunc(states, func(s persist.PacketState) bool { return s.PacketID == p.PacketID }) {
						states = append(states, p)
					}
				}
				session.States = states
				return b.Store.SaveSession(ctx, session)
			}
		}},
		{name: "saves under any lease", caught: []string{"SESSION-5"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.save = func(ctx context.Context, clientID string, states []persist.PacketState) error {
					return l.b.Store.SaveSession(ctx, persist.Session{ClientID: clientID, Epoch: l.Epoch(), States: states})
				}
			}
		}},
		{name: "knows no late save", caught: []string{"SESSION-6"}, model: true, bend: func(b *bent) {
			b.save = func(ctx context.Context, session persist.Session) error {
				if session.Number >= 0 {
					session.Number = 0
				}
				return b.Store.SaveSession(ctx, session)
			}
		}},
		{name: "refuses a late save", caught: []string{"SESSION-6"}, model: true, bend: func(b *bent) {
			latest := make(map[string]persist.Session)
			b.save = func(ctx context.Context, session persist.Session) error {
				known := latest[session.ClientID]
				if session.Epoch == known.Epoch && session.Number < known.Number {
					return persist.ErrLeaseLost
				}
				latest[session.ClientID] = session
				return b.Store.SaveSession(ctx, session)
			}
		}},
		{name: "numbers go on with a higher epoch", caught: []string{"SESSION-6"}, model: true, bend: func(b *bent) {
			highest := make(map[string]int64)
			b.save = func(ctx context.Context, session persist.Session) error {
				if session.Number >= 0 && session.Number < highest[session.ClientID] {
					return nil
				}
				highest[session.ClientID] = session.Number
				return b.Store.SaveSession(ctx, session)
			}
		}},
		{name: "saves of a lane have no numbers", caught: []string{"SESSION-6"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.save = func(ctx context.Context, clientID string, states []persist.PacketState) error {
					return l.b.Store.SaveSession(ctx, persist.Session{ClientID: clientID, Epoch: l.Epoch(), States: states})
				}
			}
		}},
		{name: "sorts by packet identifier", caught: []string{"Session"}, model: true, bend: func(b *bent) {
			b.load = func(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
				states, err := b.Store.LoadSession(ctx, clientID, epoch)
				slices.SortFunc(states, func(a, b persist.PacketState) int { return int(a.PacketID) - int(b.PacketID) })
				return states, err
			}
		}},
		{name: "client IDs to lower case without spaces", caught: []string{"Session"}, bend: func(b *bent) {
			fold := func(id string) string { return strings.ToLower(strings.TrimSpace(id)) }
			b.load = func(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
				return b.Store.LoadSession(ctx, fold(clientID), epoch)
			}
			b.save = func(ctx context.Context, session persist.Session) error {
				session.ClientID = fold(session.ClientID)
				return b.Store.SaveSession(ctx, session)
			}
		}},
	}
}

func deadLetterMutants() []mutant {
	return []mutant{
		{name: "adds letters one by one", caught: []string{"DEAD-1"}, bend: func(b *bent) {
			b.add = func(ctx context.Context, letters []persist.DeadLetter) error {
				for i := range letters {
					if err := b.Store.AddDeadLetters(ctx, letters[i:i+1]); err != nil {
						return err
					}
				}
				return ctx.Err()
			}
		}},
		{name: "loses the group", caught: []string{"DEAD-1", "DeadLetters"}, model: true, bend: func(b *bent) {
			b.add = func(ctx context.Context, letters []persist.DeadLetter) error {
				letters = slices.Clone(letters)
				for i := range letters {
					letters[i].Group = ""
				}
				return b.Store.AddDeadLetters(ctx, letters)
			}
		}},
		{name: "ignores the cursor", caught: []string{"DeadLetters"}, bend: func(b *bent) {
			b.letters = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
				filter.After = 0
				return b.Store.ListDeadLetters(ctx, filter, limit)
			}
		}},
		{name: "purges all", caught: []string{"DeadLetters"}, model: true, bend: func(b *bent) {
			b.discard = func(ctx context.Context, _ persist.DeadLetterFilter, limit int) (int, error) {
				return b.Store.PurgeDeadLetters(ctx, persist.DeadLetterFilter{}, limit)
			}
		}},
		{name: "lists by group only", caught: []string{"DeadLetters"}, bend: func(b *bent) {
			b.letters = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
				filter.Side = 0
				return b.Store.ListDeadLetters(ctx, filter, limit)
			}
		}},
		{name: "lists letters of any age", caught: []string{"DeadLetters"}, bend: func(b *bent) {
			b.letters = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
				filter.OlderThan = 0
				return b.Store.ListDeadLetters(ctx, filter, limit)
			}
		}},
		{name: "purges any reason code", caught: []string{"DeadLetters"}, bend: func(b *bent) {
			b.discard = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
				filter.ReasonCodes = nil
				return b.Store.PurgeDeadLetters(ctx, filter, limit)
			}
		}},
		{name: "an empty list selects all", caught: []string{"DeadLetters"}, bend: func(b *bent) {
			b.letters = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
				if len(filter.Numbers) == 0 {
					filter.Numbers = nil
				}
				return b.Store.ListDeadLetters(ctx, filter, limit)
			}
		}},
		{name: "loses the first error", caught: []string{"DEAD-1", "OUTBOX-11"}, bend: func(b *bent) {
			b.letters = func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
				letters, err := b.Store.ListDeadLetters(ctx, filter, limit)
				for i := range letters {
					letters[i].First = letters[i].Last
				}
				return letters, err
			}
		}},
		{name: "a retry keeps the letters", caught: []string{"DEAD-3"}, model: true, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				var before []persist.DeadLetter
				for _, r := range retries {
					if letter, err := persist.GetDeadLetter(ctx, b.Store, r.Number); err == nil {
						before = append(before, letter)
					}
				}
				out, err := b.Store.RetryDeadLetters(ctx, retries)
				if err != nil {
					return nil, err
				}
				return out, b.Store.AddDeadLetters(ctx, before)
			}
		}},
		{name: "a retry loses the messages", caught: []string{"DEAD-3"}, model: true, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				numbers := []int64{}
				for _, r := range retries {
					numbers = append(numbers, r.Number)
				}
				_, err := b.Store.PurgeDeadLetters(ctx, persist.DeadLetterFilter{Numbers: numbers}, len(numbers)+1)
				return make([]persist.Retried, len(retries)), err
			}
		}},
		{name: "a retry turns the order round", caught: []string{"DEAD-3"}, model: true, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				retries = slices.Clone(retries)
				slices.Reverse(retries)
				out, err := b.Store.RetryDeadLetters(ctx, retries)
				slices.Reverse(out)
				return out, err
			}
		}},
		{name: "a retry is not one step", caught: []string{"OUTBOX-9"}, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) (all []persist.Retried, err error) {
				for i := range retries {
					out, err := b.Store.RetryDeadLetters(ctx, retries[i:i+1])
					if err != nil {
						return all, err
					}
					all = append(all, out...)
				}
				return all, nil
			}
		}},
		{name: "a retry of a letter that is gone is stored", caught: []string{"DEAD-3"}, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				out, err := b.Store.RetryDeadLetters(ctx, retries)
				for i := range out {
					if out[i].Gone {
						_, err = b.Store.Enqueue(ctx, []persist.Message{retries[i].Message})
					}
				}
				return out, err
			}
		}},
		{name: "a retry stores the letter's message", caught: []string{"DEAD-3"}, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				retries = slices.Clone(retries)
				for i := range retries {
					if letter, err := persist.GetDeadLetter(ctx, b.Store, retries[i].Number); err == nil && letter.Message.Topic != "" {
						retries[i].Message = letter.Message
					}
				}
				return b.Store.RetryDeadLetters(ctx, retries)
			}
		}},
		{name: "a retry keeps the mark", caught: []string{"DEAD-4"}, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				retries = slices.Clone(retries)
				for i := range retries {
					retries[i].KeepMark = true
				}
				return b.Store.RetryDeadLetters(ctx, retries)
			}
		}},
		{name: "a retry always forgets", caught: []string{"DEAD-4"}, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				for _, r := range retries {
					if letter, err := persist.GetDeadLetter(ctx, b.Store, r.Number); err == nil {
						if _, err := b.Store.Forget(ctx, letter.Group, []string{letter.Key}); err != nil {
							return nil, err
						}
					}
				}
				return b.Store.RetryDeadLetters(ctx, retries)
			}
		}},
		{name: "a retry forgets in every group", caught: []string{"DEAD-4"}, bend: func(b *bent) {
			b.retry = func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
				for _, r := range retries {
					if letter, err := persist.GetDeadLetter(ctx, b.Store, r.Number); err == nil {
						for _, group := range []string{"g", "h"} {
							if _, err := b.Store.Forget(ctx, group, []string{letter.Key}); err != nil {
								return nil, err
							}
						}
					}
				}
				return b.Store.RetryDeadLetters(ctx, retries)
			}
		}},
	}
}

func adminMutants() []mutant {
	return []mutant{
		{name: "counts delivered as pending", caught: []string{"Admin", "OUTBOX-12"}, model: true, bend: func(b *bent) {
			b.stats = func(ctx context.Context) (persist.Stats, error) {
				stats, err := b.Store.Stats(ctx)
				stats.Pending += stats.Delivered
				stats.Delivered = 0
				return stats, err
			}
		}},
		{name: "does not know the oldest", caught: []string{"Admin"}, model: true, bend: func(b *bent) {
			b.stats = func(ctx context.Context) (persist.Stats, error) {
				stats, err := b.Store.Stats(ctx)
				stats.OldestPending /= 2
				return stats, err
			}
		}},
		{name: "lists from the beginning", caught: []string{"Admin"}, bend: func(b *bent) {
			b.list = func(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
				req.After = 0
				return b.Store.ListOutbox(ctx, req)
			}
		}},
		{name: "lists all states", caught: []string{"Admin"}, bend: func(b *bent) {
			b.list = func(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
				req.States = nil
				return b.Store.ListOutbox(ctx, req)
			}
		}},
		{name: "finds any message", caught: []string{"Admin", "Settle"}, bend: func(b *bent) {
			b.get = func(ctx context.Context, id string) ([]persist.Entry, error) {
				if found, err := b.Store.GetOutbox(ctx, id); err == nil || ctx.Err() != nil {
					return found, err
				}
				return nil, nil
			}
		}},
		{name: "purges other states", caught: []string{"Admin"}, model: true, bend: func(b *bent) {
			b.purge = func(ctx context.Context, req persist.ListRequest) (int, error) {
				req.States = nil
				return b.Store.PurgeOutbox(ctx, req)
			}
		}},
	}
}

func storeMutants() []mutant {
	return []mutant{
		{name: "close does nothing", caught: []string{"Store"}, bend: func(b *bent) {
			b.close = func(context.Context) error { return nil }
		}},
		{name: "works although cancelled", caught: []string{"Store", "OUTBOX-3"}, bend: func(b *bent) {
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				return b.Store.Enqueue(context.WithoutCancel(ctx), msgs)
			}
		}},
		{name: "works, and then reports the cancellation", caught: []string{"Store", "OUTBOX-3"}, bend: func(b *bent) {
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				places, err := b.Store.Enqueue(context.WithoutCancel(ctx), msgs)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				return places, err
			}
		}},
		{name: "releases a lane although cancelled", caught: []string{"Store"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.release = func(ctx context.Context) error {
					if err := l.Lane.Release(context.WithoutCancel(ctx)); err != nil {
						return err
					}
					return ctx.Err()
				}
			}
		}},
		{name: "is another store each time", caught: []string{"Store"}, durable: true, bend: func(b *bent) {
			n := 0
			b.identity = func() string {
				n++
				return fmt.Sprintf("%032x", n)
			}
		}},
		{name: "shows payloads in errors", caught: []string{"Arguments"}, bend: func(b *bent) {
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				places, err := b.Store.Enqueue(ctx, msgs)
				if err != nil && len(msgs) > 0 {
					err = fmt.Errorf("%w: payload %s", err, msgs[0].Payload)
				}
				return places, err
			}
		}},
	}
}
