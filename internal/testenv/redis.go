package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncemq/oncemq/internal/loopback"
)

// RedisOptions are settings of a Redis server, named as in redis.conf. The zero
// value is a server with an append only file that is synchronised every second,
// whom anybody may talk to.
type RedisOptions struct {
	// NoAppendOnly keeps the data in memory only: Stop and Kill lose it.
	NoAppendOnly bool
	// AppendFsync is when the file is synchronised with the disk: always,
	// everysec (the default) or no. The file is written before an answer in any
	// case, so Kill loses nothing that was answered.
	AppendFsync string
	// MaxMemory is the memory that data may take, such as 10mb; empty is no
	// limit. MaxMemoryPolicy is what happens then; empty is noeviction.
	MaxMemory, MaxMemoryPolicy string
	// Password is what clients have to give; empty is none. With User it is
	// that user's, and a random one if it is empty.
	Password string
	// User is an ACL user, whom URL names; the default user is off then.
	User string
	// ACL are the rules of User, such as "~app:* &* +@all -@dangerous". Empty
	// is everything.
	ACL string
	// Extra lines of redis.conf; they win over all others.
	Extra []string
}

// RedisServer is a Redis on a loopback port.
type RedisServer struct {
	t        testing.TB
	instance *redisInstance
	process  *Process        // nil if shared
	log      strings.Builder // of processes that have ended
}

// redisInstance is a server's folder and configuration.
type redisInstance struct {
	options RedisOptions
	program string
	dir     string
	port    int
	admin   redisUser
	master  string        // host and port of whom it replicates, empty: nobody
	watch   string        // name, host, port and quorum of whom it watches: a sentinel
	cluster bool          // it is a node of one
	bus     int           // the second port of such a node
	shared  *sharedServer // nil if a test has it to itself
}

// redisUser is whom to log in as; the zero value needs no login.
type redisUser struct{ name, password string }

// Redis starts a Redis with a folder of its own and returns when it accepts
// clients. It ends with the test; if the test failed its log is shown. The test
// is skipped, or fails, if Redis is not installed: see RequireServers.
func Redis(tb testing.TB, options RedisOptions) *RedisServer {
	tb.Helper()
	return startRedis(tb, newRedisInstance(Program(tb, "redis-server", "redis-server"), tb.TempDir(), options))
}

func newRedisInstance(program, dir string, options RedisOptions) *redisInstance {
	r := &redisInstance{options: options, program: program, dir: dir}
	if r.options.User != "" {
		if r.options.Password == "" {
			r.options.Password = rand.Text()
		}
		// The test keeps full rights whatever the user's are.
		r.admin = redisUser{name: "testenv", password: rand.Text()}
	} else {
		r.admin.password = options.Password
	}
	return r
}

// startRedis looks for a port and starts the server for the first time.
func startRedis(tb testing.TB, instance *redisInstance) *RedisServer {
	tb.Helper()
	s := &RedisServer{t: tb, instance: instance}
	// Another test process may take the port between the look and the start.
	for range portAttempts {
		if err := instance.configure(tb.Context()); err != nil {
			tb.Fatalf("testenv: redis: %v", err)
		}
		err := s.start()
		if err == nil {
			return s
		}
		tb.Logf("testenv: start redis on port %d: %v", instance.port, err)
	}
	tb.Fatalf("testenv: redis does not start\n%s", s.Log())
	return nil
}

// Addr is the host and port.
func (s *RedisServer) Addr() string { return s.instance.addr() }

// Host is the address without the port.
func (s *RedisServer) Host() string { return "127.0.0.1" }

// Port is the port, the same after Start.
func (s *RedisServer) Port() int { return s.instance.port }

// User is the ACL user that URL names, empty if there is none.
func (s *RedisServer) User() string { return s.instance.options.User }

// Password is the password in URL, empty if there is none.
func (s *RedisServer) Password() string { return s.instance.options.Password }

// URL leads to database 0, with the user and password if there are any.
func (s *RedisServer) URL() string { return s.URLAt(s.Addr()) }

// URLAt is URL with another host and port, those of a proxy.
func (s *RedisServer) URLAt(addr string) string {
	u := url.URL{Scheme: "redis", Host: addr, Path: "/0"}
	if s.Password() != "" {
		u.User = url.UserPassword(s.User(), s.Password())
	}
	return u.String()
}

// Kill ends the server with SIGKILL and returns when it is gone. Start then
// reads the append only file.
func (s *RedisServer) Kill() { s.t.Helper(); s.mustOwn("Kill"); s.process.Kill() }

// Stop ends the server with SIGTERM and returns when it is gone.
func (s *RedisServer) Stop() {
	s.t.Helper()
	s.mustOwn("Stop")
	s.process.Terminate()
	s.process.Wait(DefaultTimeout)
}

// Start starts the server again, on the same port and data, and returns when it
// accepts clients.
func (s *RedisServer) Start() {
	s.t.Helper()
	s.mustOwn("Start")
	if s.process.Running() {
		s.t.Fatalf("testenv: redis is running")
	}
	if err := s.start(); err != nil {
		s.t.Fatalf("testenv: start redis: %v\n%s", err, s.Log())
	}
}

// Pause stops the server where it is (SIGSTOP) until Continue: connections stay
// open and nothing answers.
func (s *RedisServer) Pause() { s.t.Helper(); s.mustOwn("Pause"); s.process.Pause() }

// Continue ends Pause.
func (s *RedisServer) Continue() { s.t.Helper(); s.mustOwn("Continue"); s.process.Continue() }

// Log is what the server has logged so far, over all its starts; of a shared
// server, what it has logged for all tests.
func (s *RedisServer) Log() string {
	if s.instance.shared != nil {
		return s.instance.shared.log()
	}
	log := s.log.String()
	if s.process != nil {
		log += s.process.Stdout.String()
	}
	return log
}

func (s *RedisServer) mustOwn(what string) {
	s.t.Helper()
	if s.instance.shared != nil {
		s.t.Fatalf("testenv: %s: the server is shared with other tests; take one with Redis", what)
	}
}

// start runs the server until it accepts clients, or returns why not.
func (s *RedisServer) start() error {
	s.t.Helper()
	if s.process != nil {
		s.log.WriteString(s.process.Stdout.String())
	}
	s.process = Start(s.t, s.instance.server())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), DefaultTimeout)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		err := s.instance.ready(ctx)
		if err == nil {
			s.instance.hurry(ctx)
			return nil
		}
		select {
		case <-retry.C:
		case <-s.process.Done():
			return fmt.Errorf("it ended with exit code %d", s.process.Wait(time.Second))
		case <-ctx.Done():
			s.process.Kill()
			return fmt.Errorf("it accepts no client: %w", err)
		}
	}
}

func (r *redisInstance) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

func (r *redisInstance) server() *exec.Cmd {
	if r.watch != "" {
		return r.sentinelCommand()
	}
	cmd := exec.Command(r.program, filepath.Join(r.dir, "redis.conf")) //nolint:gosec,noctx // the program is the one that was looked up; Process ends it.
	cmd.Dir = r.dir
	return cmd
}

// ready is nil if the server takes commands.
func (r *redisInstance) ready(ctx context.Context) error {
	_, err := r.command(ctx, "PING")
	return err
}

// configure writes the configuration, with a new port. What Redis writes into
// it later, a new master for instance, stays there over Start.
func (r *redisInstance) configure(ctx context.Context) error {
	if err := r.choosePort(ctx); err != nil {
		return err
	}
	lines := r.config()
	if r.watch != "" {
		lines = r.sentinelConfig()
	}
	text := strings.Join(append(lines, r.options.Extra...), "\n") + "\n"
	return os.WriteFile(filepath.Join(r.dir, "redis.conf"), []byte(text), 0o600)
}

// choosePort looks for a port, and for a node of a cluster for a second one: the one
// that it would take by itself, 10,000 above, may be somebody else's.
func (r *redisInstance) choosePort(ctx context.Context) (err error) {
	if r.port, err = loopback.FreePort(ctx); err != nil || !r.cluster {
		return err
	}
	r.bus, err = loopback.FreePort(ctx)
	return err
}

func (r *redisInstance) config() []string {
	o := r.options
	lines := []string{
		"bind 127.0.0.1",
		fmt.Sprintf("port %d", r.port),
		"daemonize no",
		`logfile ""`,
		`save ""`,
		// A replica need not wait for others to come.
		"repl-diskless-sync-delay 0",
	}
	if r.cluster {
		lines = append(lines, "cluster-enabled yes", "cluster-node-timeout 2000", fmt.Sprintf("cluster-port %d", r.bus))
	}
	if o.NoAppendOnly {
		lines = append(lines, "appendonly no")
	} else {
		lines = append(lines, "appendonly yes")
	}
	for _, setting := range []struct{ name, value string }{
		{"appendfsync", o.AppendFsync},
		{"maxmemory", o.MaxMemory},
		{"maxmemory-policy", o.MaxMemoryPolicy},
		{"replicaof", r.master},
		{"masteruser", r.admin.name},
		{"masterauth", r.admin.password},
	} {
		if setting.value != "" {
			lines = append(lines, setting.name+" "+setting.value)
		}
	}
	switch {
	case o.User != "":
		acl := o.ACL
		if acl == "" {
			acl = "~* &* +@all"
		}
		lines = append(lines,
			fmt.Sprintf("user %s on >%s ~* &* +@all", r.admin.name, r.admin.password),
			fmt.Sprintf("user %s on >%s %s", o.User, o.Password, acl),
			"user default off")
	case o.Password != "":
		lines = append(lines, "requirepass "+o.Password)
	}
	return lines
}
