package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// settings are a worker's; see its package.
type settings struct {
	Role, ID, Store, Broker string
	Producer                int
	Mode                    string
	Unshared                bool
	QoS                     byte
	Accounts, HandlerMS     int
	Receipts                bool
	LeaseMS                 int
	ReceiptTimeoutMS        int

	env []string // more of it
}

// member is a process of the run, started again when it has ended.
type member struct {
	t       *testing.T
	binary  string
	set     settings
	line    func(m *member, line string)
	mu      sync.Mutex // guards the following
	current *instance
	all     []*instance
}

// instance is one life of a member.
type instance struct {
	process *testenv.Process
	stdin   *os.File
	ready   chan struct{}
	answers chan string   // of a producer
	gone    chan struct{} // closed when nothing more comes from it
}

func newMember(t *testing.T, binary string, set settings, line func(m *member, line string)) *member {
	t.Helper()
	m := &member{t: t, binary: binary, set: set, line: line}
	m.start()
	return m
}

// start begins a life; the one before must have ended.
func (m *member) start() {
	m.t.Helper()
	text, err := json.Marshal(&m.set)
	require.NoError(m.t, err)
	in, stdin, err := os.Pipe()
	require.NoError(m.t, err)
	read, write, err := os.Pipe()
	require.NoError(m.t, err)
	cmd := exec.Command(m.binary)
	cmd.Env = append(append(os.Environ(), "CHAOS="+string(text)), m.set.env...)
	cmd.Stdin = in
	cmd.ExtraFiles = []*os.File{write}
	i := &instance{
		stdin: stdin, ready: make(chan struct{}), answers: make(chan string, 16), gone: make(chan struct{}),
	}
	i.process = testenv.Start(m.t, cmd)
	_ = in.Close()
	_ = write.Close()
	go func() {
		defer close(i.gone)
		defer func() { _ = read.Close() }()
		m.listen(i, bufio.NewReader(read))
	}()
	m.t.Cleanup(func() {
		i.process.Kill()
		_ = stdin.Close()
		<-i.gone
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = i
	m.all = append(m.all, i)
}

// startWorker starts a worker that nobody listens to.
func startWorker(t *testing.T, env []string) *testenv.Process {
	t.Helper()
	cmd := exec.Command(testenv.BuildTags(t, "./internal/chaos/worker", "failpoint"))
	cmd.Env = env
	return testenv.Start(t, cmd)
}

// listen takes what the process tells, until it has ended. A last line without an
// end was not written whole, and does not count.
func (m *member) listen(i *instance, in *bufio.Reader) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "ready":
			close(i.ready)
		case m.set.Role == "producer":
			i.answers <- line
		default:
			m.line(m, line)
		}
	}
}

func (m *member) now() *instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// supervise starts the process again if it has ended by itself.
func (m *member) supervise() {
	m.t.Helper()
	if !m.now().process.Running() {
		<-m.now().gone
		m.start()
	}
}

// kill ends the process with SIGKILL and starts it again.
func (m *member) kill() {
	m.t.Helper()
	m.now().process.Kill()
	<-m.now().gone
	m.start()
}

// restart ends the process with SIGTERM and starts it again. One that does not end
// is killed.
func (m *member) restart() {
	m.t.Helper()
	i := m.now()
	i.process.Terminate()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-i.gone:
	case <-timer.C:
		m.t.Errorf("%s does not end", m.set.ID)
		i.process.Kill()
	}
	m.start()
}

// await waits until the process says that it is ready.
func (m *member) await(within time.Duration) {
	m.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	i := m.now()
	select {
	case <-i.ready:
	case <-i.gone:
		require.FailNow(m.t, m.set.ID+" ended before it was ready", i.process.Stderr.String())
	case <-timer.C:
		require.FailNow(m.t, m.set.ID+" is not ready", i.process.Stderr.String())
	}
}

// keep writes what the process said in all its lives into a folder.
func (m *member) keep(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, i := range m.all {
		name := filepath.Join(dir, fmt.Sprintf("%s-%d.log", m.set.ID, n+1))
		if err := os.WriteFile(name, []byte(i.process.Stderr.String()), 0o600); err != nil {
			m.t.Log(err)
		}
	}
}
