package testenv

import (
	"strconv"
	"strings"
	"testing"
)

// redisSlots is how many hash slots a cluster has.
const redisSlots = 16384

// RedisClusterSet is a Redis Cluster of three masters, a third of the slots
// each, without replicas.
type RedisClusterSet struct {
	// Nodes are the masters. Tests may kill, pause and start them; a cluster
	// that misses one refuses commands (CLUSTERDOWN) after two seconds.
	Nodes []*RedisServer

	t testing.TB
}

// RedisCluster starts a cluster and returns when all its nodes say that all is
// well. That takes two seconds: a node waits so long before it takes part.
func RedisCluster(tb testing.TB) *RedisClusterSet {
	tb.Helper()
	set := &RedisClusterSet{t: tb}
	program := Program(tb, "redis-server", "redis-server")
	const nodes = 3
	for range nodes {
		r := newRedisInstance(program, tb.TempDir(), RedisOptions{})
		r.cluster = true
		set.Nodes = append(set.Nodes, startRedis(tb, r))
	}
	// What redis-cli --cluster create does, without its waits of a second.
	for i, node := range set.Nodes {
		args := []string{"CLUSTER", "ADDSLOTS"}
		for slot := i * redisSlots / nodes; slot < (i+1)*redisSlots/nodes; slot++ {
			args = append(args, strconv.Itoa(slot))
		}
		node.Command(args...)
		node.Command("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, node := range set.Nodes[1:] {
		first := set.Nodes[0]
		node.Command("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(first.Port()), strconv.Itoa(first.instance.bus))
	}
	set.AwaitOK()
	return set
}

// AwaitOK waits until every node knows the others and finds the cluster well
// (cluster_state:ok). All of them have to run.
func (s *RedisClusterSet) AwaitOK() {
	s.t.Helper()
	for _, node := range s.Nodes {
		eventually(s.t, func() string {
			info, err := node.TryCommand(s.t.Context(), "CLUSTER", "INFO")
			if err != nil {
				return err.Error()
			}
			if field(info, "cluster_state") != "ok" ||
				field(info, "cluster_known_nodes") != strconv.Itoa(len(s.Nodes)) ||
				field(info, "cluster_slots_ok") != strconv.Itoa(redisSlots) {
				return "the cluster is not well:\n" + info
			}
			return ""
		})
	}
}

// Addrs are the nodes' hosts and ports.
func (s *RedisClusterSet) Addrs() []string { return addrsOf(s.Nodes) }

// URL names the nodes, as go-redis's ParseClusterURL reads it:
// redis://host:port?addr=host:port&addr=…
func (s *RedisClusterSet) URL() string { return urlOf(s.Addrs(), "", nil) }

// Slot is the hash slot of a key.
func (s *RedisClusterSet) Slot(key string) int {
	s.t.Helper()
	answer := s.Nodes[0].Command("CLUSTER", "KEYSLOT", key)
	slot, err := strconv.Atoi(answer)
	if err != nil {
		s.t.Fatalf("testenv: CLUSTER KEYSLOT: %v", err)
	}
	return slot
}

// Owner is the index in Nodes of the node that has a slot.
func (s *RedisClusterSet) Owner(slot int) int {
	s.t.Helper()
	for i, node := range s.Nodes {
		for line := range strings.Lines(node.Command("CLUSTER", "NODES")) {
			fields := strings.Fields(line)
			const slots = 8 // where they begin
			if len(fields) < slots || !strings.Contains(fields[2], "myself") {
				continue
			}
			for _, item := range fields[slots:] {
				// A slot that is on its way, "[slot->-node]", is in a range too.
				first, last, isRange := strings.Cut(item, "-")
				from, err := strconv.Atoi(first)
				if err != nil {
					continue
				}
				to := from
				if isRange {
					to, _ = strconv.Atoi(last)
				}
				if from <= slot && slot <= to {
					return i
				}
			}
		}
	}
	s.t.Fatalf("testenv: nobody has slot %d", slot)
	return 0
}

// MoveSlot moves a slot with its keys to the node with that index while clients
// work, and returns when every node knows.
func (s *RedisClusterSet) MoveSlot(slot, to int) {
	s.t.Helper()
	move := s.OpenMove(slot, to)
	move.Keys()
	move.Close()
}

// SlotMove is a slot on its way: the old node answers for the keys that it
// still has and sends clients to the new one for all others (ASK); a command
// whose keys are on both is refused (TRYAGAIN).
type SlotMove struct {
	set          *RedisClusterSet
	slot         string
	source, dest *RedisServer
}

// OpenMove begins to move a slot to the node with that index, and moves no key.
func (s *RedisClusterSet) OpenMove(slot, to int) *SlotMove {
	s.t.Helper()
	m := &SlotMove{set: s, slot: strconv.Itoa(slot), source: s.Nodes[s.Owner(slot)], dest: s.Nodes[to]}
	if m.source == m.dest {
		s.t.Fatalf("testenv: node %d has slot %d already", to, slot)
	}
	m.dest.Command("CLUSTER", "SETSLOT", m.slot, "IMPORTING", m.source.Command("CLUSTER", "MYID"))
	m.source.Command("CLUSTER", "SETSLOT", m.slot, "MIGRATING", m.dest.Command("CLUSTER", "MYID"))
	return m
}

// Key moves one key.
func (m *SlotMove) Key(key string) { m.set.t.Helper(); m.migrate(key) }

// Keys moves all keys that the old node still has.
func (m *SlotMove) Keys() {
	m.set.t.Helper()
	for {
		keys := m.source.Command("CLUSTER", "GETKEYSINSLOT", m.slot, "100")
		if keys == "" {
			return
		}
		m.migrate(strings.Split(keys, "\n")...)
	}
}

func (m *SlotMove) migrate(keys ...string) {
	m.set.t.Helper()
	m.source.Command(append([]string{
		"MIGRATE", "127.0.0.1", strconv.Itoa(m.dest.Port()), "", "0", "5000", "KEYS",
	}, keys...)...)
}

// Close gives the slot to the new node and returns when every node knows (MOVED).
// All keys have to be there.
func (m *SlotMove) Close() {
	m.set.t.Helper()
	id := m.dest.Command("CLUSTER", "MYID")
	// The new node first: from then on it is nobody's fault if the old one dies.
	m.dest.Command("CLUSTER", "SETSLOT", m.slot, "NODE", id)
	for _, node := range m.set.Nodes {
		if node != m.dest {
			node.Command("CLUSTER", "SETSLOT", m.slot, "NODE", id)
		}
	}
	m.set.AwaitOK()
}
