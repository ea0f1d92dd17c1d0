package persisttest

import (
	"context"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

// RunModel lets a store and a model of it go through the same random history:
// calls, the passing of time, crashes; where the store may have several handles,
// through two of them. After each step the store must hold what the model holds:
// nothing lost, nothing doubled, each lane in its order, all counts right, every
// fence higher than the last.
//
// The flags of package rapid say how long: -rapid.checks histories of about
// -rapid.steps steps. Parallel histories are the business of Run.
func RunModel(t *testing.T, h Harness) {
	t.Helper()
	runModel(t, h)
}

// runModel is RunModel for anything that rapid can report to.
func runModel(t rapid.TB, h Harness) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(rt, h)
		actions := map[string]func(*rapid.T){"": m.check, "advance": m.advance, "reopen": m.reopen}
		// A history that is about one thing gets further than one about all.
		for _, focus := range rapid.SampledFrom([][]map[string]func(*rapid.T){
			{m.outboxActions()},
			{m.outboxActions()},
			{m.keyActions()},
			{m.sessionActions()},
			{m.outboxActions(), m.keyActions(), m.sessionActions()},
		}).Draw(rt, "focus") {
			maps.Copy(actions, focus)
		}
		for name, action := range actions {
			actions[name] = func(rt *rapid.T) {
				m.store = rapid.SampledFrom(m.handles).Draw(rt, "handle")
				action(rt)
			}
		}
		rt.Repeat(actions)
	})
}

func (m *model) outboxActions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"acknowledge":         m.acknowledge,
		"await receipts":      m.awaitReceipts,
		"acquire":             m.acquire,
		"acquire and drain":   m.acquireAndDrain,
		"add dead letters":    m.addLetters,
		"enqueue":             m.enqueue,
		"enqueue again":       m.enqueue,
		"enqueue once more":   m.enqueue,
		"next":                m.next,
		"next again":          m.next,
		"purge dead letters":  m.purgeLetters,
		"purge outbox":        m.purge,
		"release":             m.release,
		"renew":               m.renew,
		"retry dead letters":  m.retryLetters,
		"settle":              m.settle,
		"settle again":        m.settle,
		"use of a lost lease": m.useLost,
	}
}

func (m *model) keyActions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"claim":          m.claimKeys,
		"claim again":    m.claimKeys,
		"complete":       m.completeKeys,
		"expire":         m.expireKeys,
		"forget":         m.forgetKeys,
		"release claims": m.releaseKeys,
		"renew claims":   m.renewKeys,
	}
}

func (m *model) sessionActions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"load session":       m.loadSession,
		"save session":       m.saveSession,
		"save session again": m.saveSession,
		"save session more":  m.saveSession,
	}
}

// All times of the model are made of ticks: the clock moves by whole ticks, and
// whatever ends does so half a tick after one, so that it does not matter how
// long a step took on a clock that does not stand still.
const tick = 10 * time.Minute

// ticks draws a time after which something ends.
func ticks(t *rapid.T, what string, most int) time.Duration {
	return time.Duration(rapid.IntRange(0, most).Draw(t, what))*tick + tick/2
}

// model is what a store should hold.
type model struct {
	*env
	now     time.Duration
	handles []persist.Store // of one store, used in turns
	limits  persist.Limits
	latest  bool // each message supersedes the one before it, under few keys

	lanes               []*modelLane
	letters             []*modelLetter
	keys                map[[2]string]*modelKey
	sessions            map[string]*modelSession
	fates               map[persist.Ref]persist.Fate // of places whose message is gone
	dropped, superseded int64
	serial              int // of message IDs and names
}

// newModel makes a store and its model.
func newModel(rt *rapid.T, h Harness) *model {
	opts := Options{Lanes: rapid.IntRange(1, 3).Draw(rt, "lanes")}
	if rapid.Bool().Draw(rt, "limited") {
		opts.Limits.Messages = rapid.IntRange(3, 12).Draw(rt, "max messages")
	}
	if rapid.IntRange(0, 3).Draw(rt, "limited bytes") == 0 {
		opts.Limits.Bytes = int64(rapid.IntRange(100, 600).Draw(rt, "max bytes"))
	}
	if rapid.Bool().Draw(rt, "limited age") {
		opts.Limits.Age = 10*tick + tick/2 // longer than any delay
	}
	t := rapidT{rt}
	ctx, cancel := context.WithTimeout(rt.Context(), time.Minute)
	t.Cleanup(cancel)
	e := &env{T: t, h: h, ctx: ctx, backend: h.New(t, opts)}
	e.store = e.open()
	m := &model{env: e, limits: opts.Limits, handles: []persist.Store{e.store, e.handle()}}
	m.latest = rapid.IntRange(0, 4).Draw(rt, "latest only") == 0
	m.forget(opts.Lanes)
	return m
}

// forget makes the model empty.
func (m *model) forget(lanes int) {
	m.lanes = make([]*modelLane, lanes)
	for i := range m.lanes {
		m.lanes[i] = &modelLane{number: i}
	}
	m.letters = nil
	m.keys = make(map[[2]string]*modelKey)
	m.sessions = make(map[string]*modelSession)
	m.fates = make(map[persist.Ref]persist.Fate)
	m.dropped, m.superseded = 0, 0
}

// advance lets time pass.
func (m *model) advance(t *rapid.T) {
	d := tick * time.Duration(rapid.SampledFrom([]int{1, 1, 3, 10, 200}).Draw(t, "ticks"))
	m.now += d
	m.env.advance(d)
}

// reopen crashes. Leases last, but nobody has them any more.
func (m *model) reopen(*rapid.T) {
	m.crash()
	m.handles = []persist.Store{m.store, m.handle()}
	if !m.h.Durable {
		m.forget(len(m.lanes))
		return
	}
	for _, l := range m.lanes {
		l.lease, l.lost = nil, nil
	}
}

// rapidT is a check of rapid as a T.
type rapidT struct{ *rapid.T }

// TempDir makes a folder for one check.
func (t rapidT) TempDir() string {
	dir, err := os.MkdirTemp("", "persisttest")
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the check's folder: %v", err)
		}
	})
	return dir
}
