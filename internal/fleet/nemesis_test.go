package fleet

import (
	"math/rand/v2"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// member is a process of the fleet, which is started again when it has ended.
type member struct {
	t       *testing.T
	name    string
	command func() *exec.Cmd

	mu      sync.Mutex // guards process, which the nemesis replaces
	process *testenv.Process
}

func newMember(t *testing.T, name string, command func() *exec.Cmd) *member {
	t.Helper()
	m := &member{t: t, name: name, command: command}
	m.start()
	return m
}

func (m *member) start() {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.process = testenv.Start(m.t, m.command())
}

// supervise starts the process again if it has ended by itself, as it does if it
// finds no store when it starts.
func (m *member) supervise() {
	m.t.Helper()
	if !m.running().Running() {
		m.start()
	}
}

func (m *member) running() *testenv.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process
}

// ended waits until the process, which was told to end, has done so in good order.
// If it had just been started, the store may have been away, or being opened.
func (m *member) ended() {
	m.t.Helper()
	const noStore, opening = 5, 143
	require.Contains(m.t, []int{0, noStore, opening}, m.running().Wait(20*time.Second), "%s did not end in good order", m.name)
}

// nemesis does something bad to a member every now and then.
type nemesis struct {
	t       *testing.T
	random  *rand.Rand
	members []*member
	lease   time.Duration

	kills, stops, ends int
}

// strike picks a member and a fault, and returns when the fault is over.
func (n *nemesis) strike(done <-chan struct{}) {
	m := n.members[n.random.IntN(len(n.members))]
	switch n.random.IntN(4) {
	case 0, 1:
		n.kills++
		m.running().Kill()
		m.start()
	case 2:
		n.stops++
		m.running().Pause()
		n.wait(done, n.lease/2+time.Duration(n.random.Int64N(int64(3*n.lease))))
		m.running().Continue()
	case 3:
		n.ends++
		m.running().Terminate()
		m.ended()
		m.start()
	}
}

// wait is a pause of the nemesis: nothing is synchronised by it.
func (n *nemesis) wait(done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
