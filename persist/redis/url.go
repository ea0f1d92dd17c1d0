package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/oncemq/oncemq/internal/silence"
	"github.com/oncemq/oncemq/persist"
)

// Driver opens Redis stores by URL:
//
//	redis://user:password@host:6379/0
//	rediss://host:6379/0?prefix=orders&lanes=4          (TLS)
//	unix:///run/redis/redis.sock?db=1
//	redis+sentinel://host:26379,host2:26379/mymaster/0  (rediss+sentinel: TLS)
//	redis+cluster://host:7000,host2:7000                (rediss+cluster: TLS)
//
// User and password are those of the Redis servers; those of Sentinels are the
// options sentinel_username and sentinel_password. Options are prefix, lanes,
// max_messages, max_bytes (such as 64MiB), max_age (such as 24h), allow_eviction,
// allow_volatile, wait_replicas and wait_timeout, see [Options], and what go-redis
// knows, such as dial_timeout, read_timeout, pool_size, or skip_verify.
type Driver struct{}

var _ persist.Driver = Driver{}

// The schemes that Driver opens.
const (
	schemeTCP         = "redis"
	schemeTLS         = "rediss"
	schemeUnix        = "unix"
	schemeSentinel    = "redis+sentinel"
	schemeSentinelTLS = "rediss+sentinel"
	schemeCluster     = "redis+cluster"
	schemeClusterTLS  = "rediss+cluster"
)

// Schemes are "redis", "rediss", "unix", and those with "+sentinel" and
// "+cluster".
func (Driver) Schemes() []string {
	return []string{schemeTCP, schemeTLS, schemeUnix, schemeSentinel, schemeSentinelTLS, schemeCluster, schemeClusterTLS}
}

// Open opens the store of a URL; errors are those of [Open].
func (Driver) Open(ctx context.Context, u *url.URL) (persist.Store, error) {
	s, err := openURL(ctx, u, Options{})
	if err != nil {
		return nil, err // not s: a nil *Store is no nil interface
	}
	return s, nil
}

// connection is what a URL says.
type connection struct {
	// name is scheme and host, without anything secret.
	name   string
	client func() goredis.UniversalClient
}

// parseURL reads a URL, whose options change opts. Its errors do not repeat the
// URL, in which there may be a password.
func parseURL(u *url.URL, opts *Options) (connection, error) {
	fail := func(format string, args ...any) (connection, error) {
		return connection{}, fmt.Errorf("%w: redis URL: %s", persist.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if u.Opaque != "" || u.Fragment != "" {
		return fail("it must be of the form redis://user:password@host:port/db")
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("the options cannot be parsed")
	}
	for name, list := range values {
		known, err := opts.set(name, list[len(list)-1])
		if err != nil {
			return fail("option %s must be %s", name, err.Error())
		}
		if known {
			if len(list) > 1 {
				return fail("option %q is given %d times", name, len(list))
			}
			delete(values, name)
		}
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	c := connection{name: u.Scheme + "://" + u.Host}
	hosts := strings.Split(u.Host, ",")
	for _, host := range hosts[1:] {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort(kind))
		}
		values.Add("addr", host)
	}
	plain := url.URL{Scheme: scheme, User: u.User, Host: hosts[0], Path: u.Path, RawQuery: values.Encode()}
	switch {
	case kind == "cluster":
		c.client, err = clusterClient(plain)
	case kind == "sentinel":
		c.client, err = sentinelClient(plain)
	case len(hosts) > 1:
		return fail("several hosts need redis+cluster or redis+sentinel")
	case scheme == schemeUnix:
		c.name = "unix://" + u.Path
		c.client, err = singleClient(plain)
	default:
		c.client, err = singleClient(plain)
	}
	if err != nil {
		return fail("%s", quiet(err))
	}
	return c, nil
}

func defaultPort(kind string) string {
	if kind == "sentinel" {
		return "26379"
	}
	return "6379"
}

// quiet is the text of an error of go-redis, unless it may repeat the URL.
func quiet(err error) string {
	text := strings.TrimPrefix(err.Error(), "redis: ")
	for _, harmless := range []string{"unexpected option", "invalid database number", "empty unix socket path", "no master"} {
		if strings.HasPrefix(text, harmless) {
			return text
		}
	}
	return "it cannot be read"
}

// What our own clients are set to, if the URL does not say otherwise. The client
// is not to repeat commands by itself, see onceCommand. It is not to introduce
// itself either: an answer to that which comes too late was once taken for that
// of another command (CVE-2025-29923).
const (
	dialTimeout = 3 * time.Second
	noRetries   = -1
	oneDial     = 1
	bufferSize  = 64 << 10
	noPool      = -1
)

// handshake turns off messages about maintenance, which only Redis Cloud sends.
func handshake() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// watched is go-redis's own dialer, whose connections are watched. A server that speaks
// no TLS is told from one that does not answer.
func watched(timeout time.Duration, encryption *tls.Config) silence.Dial {
	dial := goredis.NewDialer(&goredis.Options{DialTimeout: timeout, TLSConfig: encryption})
	return new(silence.Watch).Dial(func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		var op *net.OpError
		if err != nil && encryption != nil && (!errors.As(err, &op) || op.Op != "dial") {
			if errors.Is(err, context.DeadlineExceeded) {
				err = os.ErrDeadlineExceeded // of the dialer itself: it does not look at ctx
			}
			return nil, &notSentError{fmt.Errorf("TLS handshake: %w", err)}
		}
		return nc, err
	})
}

func orDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func singleClient(u url.URL) (func() goredis.UniversalClient, error) {
	o, err := goredis.ParseURL(u.String())
	if err != nil {
		return nil, err
	}
	o.MaxRetries, o.DialerRetries, o.DisableIdentity, o.ContextTimeoutEnabled = noRetries, oneDial, true, true
	o.MaintNotificationsConfig = handshake()
	orDefault(&o.DialTimeout, dialTimeout)
	o.Dialer = watched(o.DialTimeout, o.TLSConfig)
	orDefault(&o.PipelinePoolSize, noPool)
	o.ReadBufferSize, o.WriteBufferSize = bufferSize, bufferSize
	return func() goredis.UniversalClient { return goredis.NewClient(o) }, nil
}

func clusterClient(u url.URL) (func() goredis.UniversalClient, error) {
	if strings.Trim(u.Path, "/0") != "" {
		return nil, errors.New("redis: invalid database number: a Cluster has only 0")
	}
	u.Path = ""
	o, err := goredis.ParseClusterURL(u.String())
	if err != nil {
		return nil, err
	}
	o.MaxRetries, o.DialerRetries, o.DisableIdentity, o.ContextTimeoutEnabled = noRetries, oneDial, true, true
	o.MaintNotificationsConfig = handshake()
	// Everything is read where it is written.
	o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
	orDefault(&o.DialTimeout, dialTimeout)
	o.Dialer = watched(o.DialTimeout, o.TLSConfig)
	orDefault(&o.PipelinePoolSize, noPool)
	o.ReadBufferSize, o.WriteBufferSize = bufferSize, bufferSize
	return func() goredis.UniversalClient { return goredis.NewClusterClient(o) }, nil
}

func sentinelClient(u url.URL) (func() goredis.UniversalClient, error) {
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	values := u.Query()
	if parts[0] != "" {
		values.Set("master_name", parts[0])
	}
	if values.Get("master_name") == "" {
		return nil, errors.New("redis: no master is named; write redis+sentinel://host:26379/master/0")
	}
	u.Path = ""
	if len(parts) > 1 {
		u.Path = "/" + strings.Join(parts[1:], "/")
	}
	user := u.User
	u.User = nil
	if name := values.Get("sentinel_username"); name != "" || values.Has("sentinel_password") {
		u.User = url.UserPassword(name, values.Get("sentinel_password"))
	}
	values.Del("sentinel_username")
	values.Del("sentinel_password")
	u.RawQuery = values.Encode()
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), defaultPort("sentinel"))
	}
	o, err := goredis.ParseFailoverURL(u.String())
	if err != nil {
		return nil, err
	}
	if user != nil {
		o.Username = user.Username()
		o.Password, _ = user.Password()
	}
	o.MaxRetries, o.DialerRetries, o.DisableIdentity, o.ContextTimeoutEnabled = noRetries, oneDial, true, true
	o.RouteByLatency, o.RouteRandomly, o.ReplicaOnly = false, false, false
	orDefault(&o.DialTimeout, dialTimeout)
	o.Dialer = watched(o.DialTimeout, o.TLSConfig)
	orDefault(&o.PipelinePoolSize, noPool)
	o.ReadBufferSize, o.WriteBufferSize = bufferSize, bufferSize
	return func() goredis.UniversalClient { return goredis.NewFailoverClient(o) }, nil
}

// set reads one option; not known if it is none of ours. The error says what it
// must be.
func (o *Options) set(name, value string) (known bool, err error) {
	switch name {
	case "prefix":
		if o.Prefix = value; !validPrefix(value) {
			return true, errors.New(prefixForm)
		}
	case "lanes":
		if o.Lanes, err = strconv.Atoi(value); err != nil || o.Lanes < 1 || o.Lanes > maxLanes {
			return true, fmt.Errorf("a number from 1 to %d", maxLanes)
		}
	case "max_messages", "max_bytes", "max_age":
		limits := o.limits()
		if err := limits.Set(name, value); err != nil {
			return true, err
		}
		o.MaxMessages, o.MaxBytes, o.MaxAge = limits.Messages, limits.Bytes, limits.Age
	case "allow_eviction":
		if o.AllowEviction, err = strconv.ParseBool(value); err != nil {
			return true, errors.New("true or false")
		}
	case "allow_volatile":
		if o.AllowVolatile, err = strconv.ParseBool(value); err != nil {
			return true, errors.New("true or false")
		}
	case "wait_replicas":
		if o.WaitReplicas, err = strconv.Atoi(value); err != nil || o.WaitReplicas < 0 {
			return true, errors.New("a number, 0 for none")
		}
	case "wait_timeout":
		if o.WaitTimeout, err = time.ParseDuration(value); err != nil || o.WaitTimeout < minWaitTimeout {
			return true, errors.New("a duration such as 1s")
		}
	default:
		return false, nil
	}
	return true, nil
}
