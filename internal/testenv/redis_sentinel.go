package testenv

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// RedisSentinelSet is a master with two replicas under three sentinels, two of
// whom replace a master that has not answered for a second.
type RedisSentinelSet struct {
	// MasterName is what the sentinels call the master.
	MasterName string
	// Servers are the first master and its replicas, Sentinels who watch them.
	// Tests may kill, pause and start any of them.
	Servers, Sentinels []*RedisServer

	t testing.TB
}

// RedisSentinel starts the servers and returns when the sentinels know them all
// and each other, so that they can fail over at once.
func RedisSentinel(tb testing.TB) *RedisSentinelSet {
	tb.Helper()
	set := &RedisSentinelSet{MasterName: "oncemq", t: tb}
	master := Redis(tb, RedisOptions{})
	set.Servers = []*RedisServer{master, master.Replica(tb), master.Replica(tb)}
	for range 3 {
		sentinel := newRedisInstance(master.instance.program, tb.TempDir(), RedisOptions{})
		sentinel.watch = fmt.Sprintf("%s 127.0.0.1 %d 2", set.MasterName, master.Port())
		set.Sentinels = append(set.Sentinels, startRedis(tb, sentinel))
	}
	set.AwaitReady()
	return set
}

// AwaitReady waits until every sentinel knows the others and has all servers
// in sight, as before a failover. All servers have to run.
func (s *RedisSentinelSet) AwaitReady() {
	s.t.Helper()
	for _, sentinel := range s.Sentinels {
		eventually(s.t, func() string {
			master := pairs(sentinel.Command("SENTINEL", "MASTER", s.MasterName))
			if master["flags"] != "master" ||
				master["num-slaves"] != strconv.Itoa(len(s.Servers)-1) ||
				master["num-other-sentinels"] != strconv.Itoa(len(s.Sentinels)-1) {
				return fmt.Sprintf("a sentinel does not see everybody: %v", master)
			}
			replicas := sentinel.Command("SENTINEL", "REPLICAS", s.MasterName)
			if strings.Count(replicas, "master-link-status\nok\n") != len(s.Servers)-1 ||
				strings.Contains(replicas, "_down") || strings.Contains(replicas, "disconnected") {
				return "a sentinel misses a replica:\n" + replicas
			}
			return ""
		})
	}
}

// Addrs are the sentinels' hosts and ports.
func (s *RedisSentinelSet) Addrs() []string { return addrsOf(s.Sentinels) }

// URL names the sentinels and the master, as go-redis's ParseFailoverURL reads
// it: redis://host:port/0?master_name=name&addr=host:port&addr=…
func (s *RedisSentinelSet) URL() string {
	return urlOf(s.Addrs(), "/0", url.Values{"master_name": {s.MasterName}})
}

// Master is the server that most sentinels call the master. It need not be
// alive.
func (s *RedisSentinelSet) Master() *RedisServer {
	s.t.Helper()
	votes := make(map[string]int)
	for _, sentinel := range s.Sentinels {
		answer, err := sentinel.TryCommand(s.t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.MasterName)
		if err != nil {
			continue
		}
		host, port, _ := strings.Cut(answer, "\n")
		addr := net.JoinHostPort(host, port)
		votes[addr]++
		if 2*votes[addr] > len(s.Sentinels) {
			for _, server := range s.Servers {
				if server.Addr() == addr {
					return server
				}
			}
		}
	}
	s.t.Fatalf("testenv: the sentinels agree on no master: %v", votes)
	return nil
}

// AwaitFailover waits until all sentinels that answer name another master than
// old, the same, and it takes writes; it returns that master. Two sentinels
// have to run.
func (s *RedisSentinelSet) AwaitFailover(old *RedisServer) *RedisServer {
	s.t.Helper()
	var master *RedisServer
	eventually(s.t, func() string {
		var named []string
		for _, sentinel := range s.Sentinels {
			// A sentinel that is down or paused has no say.
			ctx, cancel := context.WithTimeout(s.t.Context(), probeTimeout)
			answer, err := sentinel.TryCommand(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.MasterName)
			cancel()
			if err == nil {
				named = append(named, strings.Replace(answer, "\n", ":", 1))
			}
		}
		slices.Sort(named)
		named = slices.Compact(named)
		if len(named) != 1 || named[0] == old.Addr() {
			return fmt.Sprintf("the sentinels name %v", named)
		}
		i := slices.IndexFunc(s.Servers, func(server *RedisServer) bool { return server.Addr() == named[0] })
		if i < 0 {
			return "the sentinels name a stranger, " + named[0]
		}
		master = s.Servers[i]
		info, err := master.TryCommand(s.t.Context(), "INFO", "replication")
		if err != nil {
			return fmt.Sprintf("the new master, %s: %v", named[0], err)
		}
		if role := field(info, "role"); role != "master" {
			return fmt.Sprintf("the new master, %s, is %s", named[0], role)
		}
		return ""
	})
	return master
}

// Failover has the sentinels replace a master that is well, and returns the new
// one. The old one becomes its replica.
func (s *RedisSentinelSet) Failover() *RedisServer {
	s.t.Helper()
	old := s.Master()
	// It refuses while it still ends the last failover.
	eventually(s.t, func() string {
		if _, err := s.Sentinels[0].TryCommand(s.t.Context(), "SENTINEL", "FAILOVER", s.MasterName); err != nil {
			return err.Error()
		}
		return ""
	})
	return s.AwaitFailover(old)
}

// sentinelConfig are the lines of a sentinel: whom it watches, and soon.
func (r *redisInstance) sentinelConfig() []string {
	name, _, _ := strings.Cut(r.watch, " ")
	return []string{
		"bind 127.0.0.1",
		fmt.Sprintf("port %d", r.port),
		"daemonize no",
		`logfile ""`,
		"dir " + r.dir,
		"sentinel monitor " + r.watch,
		fmt.Sprintf("sentinel down-after-milliseconds %s 1000", name),
		fmt.Sprintf("sentinel failover-timeout %s 3000", name),
		fmt.Sprintf("sentinel parallel-syncs %s 1", name),
	}
}

// hurry has a sentinel look at the servers, talk to the others and take an old
// master back at short intervals; left alone it takes from two to twenty
// seconds. It forgets that when it ends.
func (r *redisInstance) hurry(ctx context.Context) {
	if r.watch == "" {
		return
	}
	// Before Redis 7 there is no such command: all is well, and slow.
	_, _ = r.command(ctx, "SENTINEL", "DEBUG",
		"INFO-PERIOD", "500", "PUBLISH-PERIOD", "250", "PING-PERIOD", "250", "ASK-PERIOD", "250")
}

func (r *redisInstance) sentinelCommand() *exec.Cmd {
	//nolint:gosec,noctx // the program is the one that was looked up; Process ends it.
	return exec.Command(r.program, filepath.Join(r.dir, "redis.conf"), "--sentinel")
}

// pairs makes a map of an answer with names and values in turn.
func pairs(answer string) map[string]string {
	all := make(map[string]string)
	for chunk := range slices.Chunk(strings.Split(answer, "\n"), 2) {
		if len(chunk) == 2 {
			all[chunk[0]] = chunk[1]
		}
	}
	return all
}

func addrsOf(servers []*RedisServer) []string {
	addrs := make([]string, len(servers))
	for i, server := range servers {
		addrs[i] = server.Addr()
	}
	return addrs
}

// urlOf has the first address as its host and the others in its query.
func urlOf(addrs []string, path string, query url.Values) string {
	if query == nil {
		query = make(url.Values)
	}
	query["addr"] = addrs[1:]
	u := url.URL{Scheme: "redis", Host: addrs[0], Path: path, RawQuery: query.Encode()}
	return u.String()
}
