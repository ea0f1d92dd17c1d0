package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// replicas are the processes of the subscriber group.
type replicas struct {
	command func(ctx context.Context, env []string) *exec.Cmd
	config  replicaConfig // of each, but for its name

	mu      sync.Mutex // guards the following
	running map[string]*process
	ended   replicaReport // sums of those that have ended
}

// process is one life of one replica.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{} // closed when it has subscribed
	done  chan struct{} // closed when it has ended, after err was set

	mu       sync.Mutex // guards the following
	last     replicaReport
	expected bool // its end was asked for
	err      error
}

func newReplicas(command func(context.Context, []string) *exec.Cmd, config replicaConfig) *replicas {
	return &replicas{command: command, config: config, running: make(map[string]*process)}
}

// start starts a replica and returns without waiting for it.
func (r *replicas) start(ctx context.Context, name string) (*process, error) {
	cfg := r.config
	cfg.ClientID = name
	value, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	// Not the context's to kill: stop and kill do that.
	cmd := r.command(context.WithoutCancel(ctx), []string{ReplicaEnv + "=" + string(value)})
	p := &process{name: name, cmd: cmd, ready: make(chan struct{}), done: make(chan struct{})}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.stdin = stdin
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	var stderr tail
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r.mu.Lock()
	r.running[name] = p
	r.mu.Unlock()
	go p.follow(stdout, &stderr)
	return p, nil
}

// follow reads the reports until the process ends.
func (p *process) follow(stdout io.Reader, stderr *tail) {
	lines := bufio.NewScanner(stdout)
	subscribed := false
	for lines.Scan() {
		var report replicaReport
		if json.Unmarshal(lines.Bytes(), &report) != nil {
			continue // the half line of a killed process
		}
		p.mu.Lock()
		p.last = report
		p.mu.Unlock()
		if report.Ready && !subscribed {
			subscribed = true
			close(p.ready)
		}
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	if !p.expected {
		if err == nil {
			err = errors.New("it ended by itself")
		}
		p.err = fmt.Errorf("%s: %w%s", p.name, err, stderr)
	}
	p.mu.Unlock()
	close(p.done)
}

// expect makes the end of the process no fault.
func (p *process) expect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = true
}

// kill ends a replica with SIGKILL: nothing in it gets to run any more.
func (r *replicas) kill(name string) error {
	p := r.take(name)
	if p == nil {
		return fmt.Errorf("kill %s: it does not run", name)
	}
	p.expect()
	err := p.cmd.Process.Kill()
	<-p.done
	r.add(p)
	if err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	return nil
}

// abort kills all replicas, for stop to wait for.
func (r *replicas) abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.running {
		p.expect()
		_ = p.cmd.Process.Kill() // it fails only for one that has ended
	}
}

// stop has all replicas finish what they have begun, and waits for them. Those
// that take longer are killed, which is no fault: it is what the demo is about.
func (r *replicas) stop(patience time.Duration) error {
	r.mu.Lock()
	var all []*process
	for name, p := range r.running {
		all = append(all, p)
		delete(r.running, name)
	}
	r.mu.Unlock()
	for _, p := range all {
		p.expect()
		_ = p.stdin.Close() // its sign to end
	}
	var errs []error
	timer := time.NewTimer(patience)
	defer timer.Stop()
	late := false
	for _, p := range all {
		if !late {
			select {
			case <-p.done:
			case <-timer.C:
				late = true
			}
		}
		if late {
			_ = p.cmd.Process.Kill() // it fails only for one that has ended
		}
		<-p.done
		p.mu.Lock()
		errs = append(errs, p.err)
		p.mu.Unlock()
		r.add(p)
	}
	return errors.Join(errs...)
}

func (r *replicas) take(name string) *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.running[name]
	delete(r.running, name)
	return p
}

func (r *replicas) add(p *process) {
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended.plus(last)
}

// totals are the sums over all lives of all replicas, as they last reported.
func (r *replicas) totals() replicaReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := r.ended
	for _, p := range r.running {
		p.mu.Lock()
		sum.plus(p.last)
		p.mu.Unlock()
	}
	return sum
}

// err tells why a replica ended that should not have.
func (r *replicas) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, p := range r.running {
		p.mu.Lock()
		errs = append(errs, p.err)
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (r *replicaReport) plus(o replicaReport) {
	r.Received += o.Received
	r.Redelivered += o.Redelivered
	r.Processed += o.Processed
	r.Duplicates += o.Duplicates
}

// tail keeps the end of what a process says on stderr.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 2048
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - most; over > 0 {
		t.text = t.text[over:]
	}
	return len(p), nil
}

// String is the text after a colon, or nothing.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.text)
	if len(text) == 0 {
		return ""
	}
	return ": " + string(text)
}

// subscribed waits until the replica is.
func (p *process) subscribed(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("start %s: %w", p.name, context.Cause(ctx))
	}
}
