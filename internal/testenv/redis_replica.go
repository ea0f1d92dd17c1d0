package testenv

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// Replica starts a replica of the server, with the same options, on a port and
// data of its own, and returns when it follows. It does not take writes.
// Command("REPLICAOF", "NO", "ONE") makes it a master.
func (s *RedisServer) Replica(tb testing.TB) *RedisServer {
	tb.Helper()
	s.mustOwn("Replica")
	r := newRedisInstance(s.instance.program, tb.TempDir(), s.instance.options)
	r.admin = s.instance.admin
	r.master = fmt.Sprintf("127.0.0.1 %d", s.Port())
	replica := startRedis(tb, r)
	replica.CatchUp(s)
	return replica
}

// CatchUp waits until the replica follows that master and has everything that
// the master has written so far. (WAIT would not tell: it counts the writes of
// its own connection.)
func (s *RedisServer) CatchUp(master *RedisServer) {
	s.t.Helper()
	want := offset(s.t, master.Command("INFO", "replication"), "master_repl_offset")
	eventually(s.t, func() string {
		info := s.Command("INFO", "replication")
		if field(info, "role") == "slave" && field(info, "master_link_status") == "up" &&
			field(info, "master_port") == strconv.Itoa(master.Port()) &&
			offset(s.t, info, "slave_repl_offset") >= want {
			return ""
		}
		return fmt.Sprintf("the replica does not catch up with %s and its offset %d:\n%s", master.Addr(), want, info)
	})
}

func offset(tb testing.TB, info, name string) int64 {
	tb.Helper()
	n, err := strconv.ParseInt(field(info, name), 10, 64)
	if err != nil {
		tb.Fatalf("testenv: %s: %v in\n%s", name, err, info)
	}
	return n
}

// Role is master or slave.
func (s *RedisServer) Role() string {
	s.t.Helper()
	return field(s.Command("INFO", "replication"), "role")
}

// field is the value of a line "name:value".
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); key == name {
			return value
		}
	}
	return ""
}
