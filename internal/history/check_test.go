package history_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/history"
)

// story makes histories by hand.
type story []history.Op

func values(seqs ...int) (all []history.Value) {
	for _, seq := range seqs {
		all = append(all, history.Value{Producer: 1, Key: 2, Seq: seq})
	}
	return all
}

func (s story) enqueue(outcome history.Type, seqs ...int) story {
	s = append(s, history.Op{Type: history.Invoke, Kind: history.Enqueue, Values: values(seqs...)})
	return append(s, history.Op{Type: outcome, Kind: history.Enqueue, Values: values(seqs...)})
}

func (s story) saw(kind history.Kind, seqs ...int) story {
	for _, seq := range seqs {
		s = append(s, history.Op{Type: history.OK, Kind: kind, Values: values(seq)})
	}
	return s
}

func (s story) under(kind history.Kind, pod string, fence int64, seq int) story {
	return append(s, history.Op{Type: history.OK, Kind: kind, Pod: pod, Fence: fence, Values: values(seq)})
}

func (s story) amount(kind history.Kind, outcome history.Type, n int64) story {
	return append(s, history.Op{Type: outcome, Kind: kind, Amount: n})
}

func (s story) crash() story { return append(s, history.Op{Type: history.Info, Kind: history.Crash}) }

func (s story) balances(change int64) story {
	sums := make([]int64, 5)
	for _, v := range values(0, 1) {
		from, to, amount := v.Transfer(5)
		sums[from] -= amount
		sums[to] += amount
	}
	sums[0] += change
	for account, sum := range sums {
		s = append(s, history.Op{Type: history.OK, Kind: history.Balance, Account: account, Amount: sum})
	}
	return s
}

func check(s story, opts history.Options) *history.Report {
	c := history.New(opts)
	for _, op := range s {
		c.Add(op)
	}
	return c.Report()
}

// What must be found, by one kind of violation and no other.
func TestFaultyHistories(t *testing.T) {
	t.Parallel()
	once := history.Options{Once: true}
	sound := func() story { return story{}.enqueue(history.OK, 0, 1, 2) }
	for name, c := range map[string]struct {
		story story
		opts  history.Options
		found func(r *history.Report) int
		want  int
		word  string
	}{
		"I1 lost": {
			sound().saw(history.Arrival, 0, 1, 2).saw(history.Effect, 0, 2), once,
			func(r *history.Report) int { return r.Lost }, 1, "I1: 1-2-1",
		},
		"I1 lost although the first answer was unknown": {
			story{}.enqueue(history.Info, 0).enqueue(history.OK, 0), once,
			func(r *history.Report) int { return r.Lost }, 1, "I1: 1-2-0",
		},
		"I2 ghost of a failure": {
			sound().enqueue(history.Fail, 3).saw(history.Effect, 0, 1, 2, 3), once,
			func(r *history.Report) int { return r.Ghosts }, 1, "I2: 1-2-3 was not enqueued",
		},
		"I2 ghost at the broker": {
			sound().enqueue(history.Fail, 3).saw(history.Arrival, 0, 1, 2, 3).saw(history.Effect, 0, 1, 2), once,
			func(r *history.Report) int { return r.Ghosts }, 1, "I2: 1-2-3",
		},
		"I2 never attempted": {
			sound().saw(history.Effect, 0, 1, 2, 7), once,
			func(r *history.Report) int { return r.Ghosts }, 1, "I2: 1-2-7 was never enqueued",
		},
		"I3 twice in one transaction with the mark": {
			sound().crash().saw(history.Effect, 0, 1, 1, 2), once,
			func(r *history.Report) int { return r.Doubled }, 1, "I3: 1-2-1 had 2 effects",
		},
		"I3 twice without a crash": {
			sound().saw(history.Effect, 0, 1, 1, 2),
			history.Options{},
			func(r *history.Report) int { return r.Doubled }, 1, "I3: 1-2-1",
		},
		"I3 more often than crashes": {
			sound().crash().saw(history.Effect, 0, 1, 1, 1, 2),
			history.Options{},
			func(r *history.Report) int { return r.Doubled }, 1, "I3: 1-2-1 had 3 effects, with 1 crashes",
		},
		"I3 twice under one claim": {
			sound().crash().saw(history.Effect, 0, 2).under(history.Effect, "a", 7, 1).under(history.Effect, "a", 7, 1),
			history.Options{},
			func(r *history.Report) int { return r.Doubled }, 1, "I3: 1-2-1 had two effects under one claim",
		},
		"I4 arrivals": {
			sound().saw(history.Arrival, 0, 2, 1).saw(history.Effect, 0, 1, 2), once,
			func(r *history.Report) int { return r.Reordered }, 1, "I4: first arrival of 1-2-1",
		},
		"I4 effects": {
			sound().saw(history.Effect, 1, 0, 2),
			history.Options{Once: true, EffectOrder: true},
			func(r *history.Report) int { return r.Reordered }, 1, "I4: first effect of 1-2-0",
		},
		"I5 completed under an old claim": {
			sound().saw(history.Effect, 0, 1, 2).under(history.Claim, "a", 3, 0).under(history.Claim, "b", 4, 0).under(history.Mark, "a", 3, 0), once,
			func(r *history.Report) int { return r.Fences }, 1, "I5: 1-2-0 was completed under fence 3",
		},
		"I5 completed and claimed again": {
			sound().saw(history.Effect, 0, 1, 2).under(history.Claim, "a", 3, 0).under(history.Mark, "a", 3, 0).under(history.Claim, "b", 4, 0), once,
			func(r *history.Report) int { return r.Fences }, 1, "I5: 1-2-0",
		},
		"I5 a fence given out twice": {
			sound().saw(history.Effect, 0, 1, 2).under(history.Claim, "a", 3, 0).under(history.Claim, "b", 3, 0), once,
			func(r *history.Report) int { return r.Fences }, 1, "I5: 1-2-0 was granted twice under fence 3",
		},
		"I6 receipt without effect": {
			story{}.enqueue(history.Info, 0).saw(history.Receipt, 0), once,
			func(r *history.Report) int { return r.Receipts }, 1, "I6: 1-2-0 has a receipt",
		},
		"I6 outbox": {
			sound().saw(history.Effect, 0, 1, 2).amount(history.Outbox, history.OK, 4), once,
			func(r *history.Report) int { return r.Stuck }, 1, "I6: 4 messages",
		},
		"I7 packets": {
			append(sound().saw(history.Effect, 0, 1, 2), history.Op{Type: history.Fail, Kind: history.Packet, Text: "PUBLISH after PUBREC"}), once,
			func(r *history.Report) int { return r.Wire }, 1, "I7: PUBLISH after PUBREC",
		},
		"I8 never": {
			sound().saw(history.Effect, 0, 1, 2).amount(history.Drain, history.Fail, 1000), once,
			func(r *history.Report) int { return r.Stuck }, 1, "I8: not at an end 1s",
		},
		"I8 late": {
			sound().saw(history.Effect, 0, 1, 2).amount(history.Drain, history.OK, 61_000), once,
			func(r *history.Report) int { return r.Stuck }, 1, "I8: not at an end 1m1s",
		},
		"balance of an account, and of all": {
			story{}.enqueue(history.OK, 0, 1).saw(history.Effect, 0, 1).balances(3),
			history.Options{Once: true, Accounts: 5},
			func(r *history.Report) int { return r.Unbalanced }, 2, "account 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := check(c.story, c.opts)
			require.Equal(t, c.want, c.found(r), r.String())
			require.ErrorContains(t, r.Err(), c.word)
			total := r.Lost + r.Ghosts + r.Doubled + r.Reordered + r.Fences + r.Receipts + r.Wire + r.Stuck + r.Unbalanced
			require.Equal(t, c.want, total, "only that: %s", r)
		})
	}
}

// What must pass.
func TestSoundHistories(t *testing.T) {
	t.Parallel()
	once := history.Options{Once: true}
	for name, c := range map[string]struct {
		story story
		opts  history.Options
	}{
		"plain": {
			story{}.enqueue(history.OK, 0, 1).saw(history.Arrival, 0, 1).saw(history.Effect, 0, 1).
				amount(history.Outbox, history.OK, 0).amount(history.Drain, history.OK, 59_000).balances(0),
			history.Options{Once: true, EffectOrder: true, Accounts: 5},
		},
		"unknown and there":        {story{}.enqueue(history.Info, 0).saw(history.Arrival, 0).saw(history.Effect, 0), once},
		"unknown and not there":    {story{}.enqueue(history.Info, 0), once},
		"no answer":                {story{{Type: history.Invoke, Kind: history.Enqueue, Values: values(0)}}.saw(history.Effect, 0), once},
		"failed and not there":     {story{}.enqueue(history.Fail, 0).enqueue(history.OK, 1).saw(history.Effect, 1), once},
		"failed, then accepted":    {story{}.enqueue(history.Fail, 0).enqueue(history.OK, 0).saw(history.Effect, 0), once},
		"unknown, then failed":     {story{}.enqueue(history.Info, 0).enqueue(history.Fail, 0).saw(history.Effect, 0), once},
		"dead letter":              {story{}.enqueue(history.OK, 0).saw(history.Dead, 0), once},
		"arrived again":            {story{}.enqueue(history.OK, 0, 1).saw(history.Arrival, 0, 1, 0, 1).saw(history.Effect, 0, 1), once},
		"late, and a dead letter":  {story{}.enqueue(history.OK, 0, 1).saw(history.Arrival, 1, 0).saw(history.Effect, 1).saw(history.Dead, 0), once},
		"late, and unknown":        {story{}.enqueue(history.Info, 0).enqueue(history.OK, 1).saw(history.Arrival, 1, 0).saw(history.Effect, 1, 0), once},
		"effects in another order": {story{}.enqueue(history.OK, 0, 1).saw(history.Arrival, 0, 1).saw(history.Effect, 1, 0), once},
		"leased, once for each crash": {
			story{}.enqueue(history.OK, 0).crash().under(history.Effect, "a", 1, 0).under(history.Effect, "b", 2, 0), history.Options{},
		},
		"claims one after another": {
			story{}.enqueue(history.OK, 0).crash().under(history.Claim, "a", 1, 0).under(history.Claim, "b", 2, 0).
				under(history.Mark, "b", 2, 0).under(history.Mark, "b", 2, 0).under(history.Effect, "b", 2, 0), history.Options{},
		},
		"a claim that nobody told of": {
			story{}.enqueue(history.OK, 0).under(history.Claim, "a", 1, 0).under(history.Mark, "b", 2, 0).saw(history.Effect, 0), once,
		},
		"receipt": {story{}.enqueue(history.OK, 0).saw(history.Effect, 0).saw(history.Receipt, 0), once},
		"faults":  {story{{Kind: history.Fault, Text: "cut"}}.enqueue(history.OK, 0).saw(history.Effect, 0), once},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, check(c.story, c.opts).Err())
		})
	}
}

func TestReportCounts(t *testing.T) {
	t.Parallel()
	s := story{{Kind: history.Fault, Text: "cut"}, {Kind: history.Fault, Text: "cut"}, {Kind: history.Fault, Text: "kill"}}.
		enqueue(history.OK, 0, 1).enqueue(history.Info, 2).enqueue(history.Fail, 3).crash().
		saw(history.Arrival, 0, 1, 0).saw(history.Effect, 0, 1, 1)
	r := check(s, history.Options{})
	require.NoError(t, r.Err())
	require.Equal(t, 3, r.Total())
	require.Equal(t, map[string]int{"cut": 2, "kill": 1}, r.Faults)
	require.Equal(t, []int{2, 1, 1, 2, 1, 3, 1, 1}, []int{
		r.Messages, r.Unknown, r.Failed, r.Arrivals, r.Repeated, r.Effects, r.Extra, r.Crashes,
	})
	require.Contains(t, r.String(), "2 messages (1 unknown, 1 failed), 3 faults (cut 2, kill 1), 1 wire duplicates, 1 extra effects")
}

// What is missing is known before the end.
func TestMissing(t *testing.T) {
	t.Parallel()
	c := history.New(history.Options{})
	for _, op := range (story{}).enqueue(history.OK, 0, 1, 2, 3).enqueue(history.Info, 4).saw(history.Arrival, 0, 1, 1).saw(history.Effect, 0).saw(history.Dead, 1) {
		c.Add(op)
	}
	require.Equal(t, []int{4, 2}, []int{c.Accepted(), c.Arrived()})
	n, _ := c.Missing(nil)
	require.Equal(t, 2, n)
	var seen history.Set
	require.False(t, seen.Add(values(2)[0]))
	require.True(t, seen.Add(values(2)[0]))
	n, example := c.Missing(seen.Has)
	require.Equal(t, 1, n)
	require.Equal(t, values(3)[0], example)
}

// A record survives in its file as it was, and a line that was cut off is left out.
func TestLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	l, err := history.Create(path)
	require.NoError(t, err)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	first := history.Op{At: at, Type: history.OK, Kind: history.Effect, Values: values(4), Pod: "a", Fence: 7}
	l.Add(first)
	l.Add(history.Op{At: at, Type: history.Info, Kind: history.Fault, Text: "cut"})
	require.NoError(t, l.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, `{"at":"2026-01-02T03:04:05.000000006Z","type":"ok","kind":"effect","values":[[1,2,4]],"pod":"a","fence":7}`,
		strings.SplitN(string(text), "\n", 2)[0])
	var read []history.Op
	require.NoError(t, history.Read(strings.NewReader(string(text)+`{"at":"2026`), func(op history.Op) { read = append(read, op) }))
	require.Len(t, read, 2)
	require.Equal(t, first, read[0])
	require.ErrorContains(t, history.Read(strings.NewReader("{}\nnonsense\n"), func(history.Op) {}), "line 2")
	_, err = history.Create(path)
	require.ErrorIs(t, err, os.ErrExist)
}

func TestParseID(t *testing.T) {
	t.Parallel()
	v := history.Value{Producer: 1, Key: 22, Seq: 333}
	got, err := history.ParseID(v.ID())
	require.NoError(t, err)
	require.Equal(t, v, got)
	for _, bad := range []string{"", "1-2", "1-2-3-4", "1-2-x", "1--2"} {
		_, err := history.ParseID(bad)
		require.Error(t, err, bad)
	}
}
