// Package redis keeps a store in Redis 6.2 or later: one server, one behind
// Sentinels, or one shard of a Cluster.
//
//	store, err := redis.Open(ctx, "redis://localhost:6379/0", redis.Options{})
//
// or, with a client that the program has already:
//
//	store, err := redis.New(ctx, client, redis.Options{Prefix: "orders"})
//
// # What it survives
//
// What the server survives, as it was set up: with appendfsync always the loss
// of power, with everysec a crash of the server process and all but the last
// second before a loss of power. [Store.Durability] says it for a store. A server
// without an append only file, or one that evicts keys, is refused unless the
// options allow it.
//
// Replication is asynchronous. A failover may lose changes that were confirmed:
// messages, settlements, marks of processed keys. [Options.WaitReplicas] lowers the
// odds and does not rule it out. What a failover cannot do is make two holders
// of one: epochs are never lower than the server's clock in milliseconds, so that
// one that was lost is not given out again, and the holder of a lane notices if
// the server has forgotten what the holder had read, and loses its lease before it
// settles others in their place.
//
// # Steps
//
// Every change is one Lua script (scripts/*.lua), which the server runs as a
// whole. Scripts check first and write afterwards. They are sent by their digest,
// and with their text to a server that does not know them. The client never
// repeats one whose answer was lost: the error wraps [persist.ErrUnknownOutcome]
// then.
//
// All keys of a store have one hash tag, {prefix}, because a script in a Cluster
// has one slot. So a store lives on one shard; who needs more takes several
// prefixes. Keys never expire, and no script touches a key that it has not
// declared. The least that an ACL must allow is
//
//	~{oncemq}:* &{oncemq}:* -@all +evalsha +eval +time +ping +hello +auth +select
//	+publish +subscribe +unsubscribe +exists +get +hget +hset +hsetnx +hmget
//	+hgetall +hdel +hincrby +hlen +hkeys +hscan +del +xadd +xdel +xrange +xtrim
//	+zadd +zrem +zrange +zrangebyscore +zremrangebyscore +setbit +bitfield
//
// with +wait for [Options.WaitReplicas], and +info and +config|get so that Open
// can look at how the server is set up.
//
// # Memory
//
// Messages are entries of a stream for each lane, which Redis packs: about 350
// bytes for a message of 256. Completed keys are fields of small hashes, about 42
// bytes each. When maxmemory is reached, Enqueue and Claim fail with an error
// that wraps [persist.ErrStoreFull]; leases, settlements and completions go on,
// so that the outbox can be drained.
//
// # Logging
//
// go-redis writes to the standard error what its errors say as well, whoever uses it.
// That is the program's to change, by go-redis's logging.Disable or SetLogger.
package redis
