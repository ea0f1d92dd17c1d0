package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/persist"
)

// The oldest Redis that will do: XTRIM MINID, with which delivered messages are
// cut off, came with it.
const (
	minMajor = 6
	minMinor = 2
)

// server is what a server says about itself; an empty string is what it does not
// say.
type server struct {
	version    string
	role       string
	policy     string // maxmemory-policy
	appendOnly string // yes or no
	fsync      string // appendfsync
	// hidden tells that the server does not show its configuration, as managed
	// ones do.
	hidden bool
}

// examine refuses a server that cannot keep what it accepts.
func (s *Store) examine(ctx context.Context) error {
	v, err := s.lookAt(ctx)
	if err != nil {
		return err
	}
	switch {
	case !recent(v.version):
		return fmt.Errorf("%w: Redis %s is too old, %d.%d or later is needed (XTRIM MINID)", persist.ErrInvalid, v.version, minMajor, minMinor)
	case v.role == "slave":
		return fmt.Errorf("%w: the server is a replica", persist.ErrReadOnly)
	case evicts(v.policy) && !s.opts.AllowEviction:
		return fmt.Errorf("%w: maxmemory-policy is %s, so that the server deletes messages when its memory is full; "+
			"set noeviction, or allow_eviction=true", persist.ErrInvalid, v.policy)
	case v.appendOnly == "no" && !v.hidden && !s.opts.AllowVolatile:
		return fmt.Errorf("%w: appendonly is no, so that the server forgets messages at a restart; "+
			"set it to yes, or allow_volatile=true", persist.ErrInvalid)
	}
	s.durability = v.durability(s.opts)
	return nil
}

// lookAt asks the server that holds the store's keys.
func (s *Store) lookAt(ctx context.Context) (v server, err error) {
	var node goredis.Cmdable = s.client
	if cluster, ok := s.client.(*goredis.ClusterClient); ok {
		if node, err = cluster.MasterForKey(ctx, s.keys.meta); err != nil {
			return v, err
		}
	}
	info, err := node.Info(ctx).Result()
	if err != nil && !denied(err) {
		return v, err
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "redis_version":
			v.version = value
		case "role":
			v.role = value
		case "maxmemory_policy":
			v.policy = value
		case "aof_enabled":
			v.appendOnly = map[string]string{"0": "no", "1": "yes"}[value]
		}
	}
	for name, place := range map[string]*string{"maxmemory-policy": &v.policy, "appendonly": &v.appendOnly, "appendfsync": &v.fsync} {
		values, err := node.ConfigGet(ctx, name).Result()
		switch {
		case err != nil && !denied(err):
			return v, err
		case err != nil || values[name] == "":
			v.hidden = true
		default:
			*place = values[name]
		}
	}
	return v, nil
}

// denied tells whether a command is not for us.
func denied(err error) bool {
	return goredis.HasErrorPrefix(err, "NOPERM") || goredis.HasErrorPrefix(err, "unknown command") ||
		goredis.HasErrorPrefix(err, "unknown subcommand")
}

// recent tells whether a version is new enough; one that is not known is.
func recent(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return true
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err != nil || err2 != nil || major > minMajor || major == minMajor && minor >= minMinor
}

// evicts tells whether keys without an expiry, as all of ours are, may be
// deleted when memory is full. The volatile-* policies leave them alone.
func evicts(policy string) bool { return strings.HasPrefix(policy, "allkeys-") }

// durability says what the store survives.
func (v server) durability(opts Options) string {
	var b strings.Builder
	b.WriteString("Redis")
	if v.version != "" {
		b.WriteString(" " + v.version)
	}
	switch {
	case v.appendOnly == "no":
		b.WriteString(", no append only file: a restart of the server loses what came after its last snapshot, perhaps everything")
	case v.fsync == "always":
		b.WriteString(", appendfsync always: what was stored survives the loss of power")
	case v.fsync == "everysec":
		b.WriteString(", appendfsync everysec: what was stored survives a crash of the server process; " +
			"the loss of power may take the last second with it")
	case v.fsync == "no":
		b.WriteString(", appendfsync no: what was stored survives a crash of the server process; " +
			"the loss of power may take what the operating system had not written")
	case v.appendOnly == "yes":
		b.WriteString(", append only file: what was stored survives a crash of the server process; " +
			"how much the loss of power may take is unknown, since the server does not show its configuration")
	default:
		b.WriteString(": what was stored survives a crash of this process; " +
			"what else is unknown, since the server does not show its configuration")
	}
	if opts.WaitReplicas > 0 {
		fmt.Fprintf(&b, "; %d replicas confirm each change, and a failover may lose changes all the same.", opts.WaitReplicas)
	} else {
		b.WriteString("; a failover to a replica may lose the latest changes.")
	}
	if evicts(v.policy) {
		fmt.Fprintf(&b, " With maxmemory-policy %s anything may be deleted when memory is full.", v.policy)
	}
	return b.String()
}
