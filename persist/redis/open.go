package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"

	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/persist"
)

// Open opens the store at a URL, see [Driver] for its forms, and creates it if
// need be. Options in the URL win over opts. The client is the store's own and is
// closed with it.
//
// The error wraps [persist.ErrInvalid] for a URL or options that cannot be,
// another number of lanes than the store has, a server that
// is older than Redis 6.2, or does not keep what it accepts (see
// [Options.AllowEviction] and [Options.AllowVolatile]); [persist.ErrReadOnly]
// for a replica, [persist.ErrSchema] or [persist.ErrCorrupt] for a store that
// cannot be used, and [persist.ErrUnavailable] for a server that cannot be
// reached, or refuses us: a wrong password, a missing right, also that to WAIT if
// [Options.WaitReplicas] needs it. It never shows a password.
func Open(ctx context.Context, rawURL string, opts Options) (*Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The text of a url.Error holds the URL, and with it the password.
		return nil, invalid("open", "", "the URL cannot be parsed")
	}
	return openURL(ctx, u, opts)
}

func openURL(ctx context.Context, u *url.URL, opts Options) (*Store, error) {
	c, err := parseURL(u, &opts)
	if err != nil {
		return nil, translate("open", "", false, err)
	}
	if opts, err = opts.withDefaults(); err != nil {
		return nil, &persist.Error{Op: "open", Object: c.name, Kind: persist.ErrInvalid, Err: err}
	}
	s := &Store{client: c.client(), owned: true, name: c.name + " " + opts.Prefix}
	if err := s.open(ctx, opts); err != nil {
		_ = s.client.Close() // the error that matters is the first
		return nil, err
	}
	return s, nil
}

// New opens the store with a client of the caller, which stays open when the
// store is closed. Its commands are not repeated by the client, whatever its
// MaxRetries. It must read where it writes: no ReadOnly, RouteByLatency or
// RouteRandomly. With ContextTimeoutEnabled a call ends with the deadline of its
// context, without it only with the client's time-outs.
//
// Errors are those of [Open].
func New(ctx context.Context, client goredis.UniversalClient, opts Options) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, &persist.Error{Op: "open", Kind: persist.ErrInvalid, Err: err}
	}
	if _, ring := client.(*goredis.Ring); ring {
		return nil, invalid("open", opts.Prefix, "a Ring is no store: its keys move when a server comes or goes")
	}
	s := &Store{client: client, name: opts.Prefix}
	if err := s.open(ctx, opts); err != nil {
		return nil, err
	}
	return s, nil
}

// open looks at the server and makes the store.
func (s *Store) open(ctx context.Context, opts Options) (err error) {
	s.opts = opts
	s.log = opts.Logger
	s.keys = newKeys(opts.Prefix)
	s.handle = rand.Text()
	s.drained = make(chan struct{})
	if s.run, err = loadScripts(opts.clock); err != nil {
		return err
	}
	if err := s.examine(ctx); err != nil {
		return s.openError(err)
	}
	if opts.WaitReplicas > 0 {
		if err := s.tryWait(ctx); err != nil {
			return s.openError(err)
		}
	}
	return s.openError(s.create(ctx))
}

// openError is an error of Open. What would be worth another attempt in the midst
// of work is told apart here from what has to be set right first.
func (s *Store) openError(err error) error {
	const op = "open"
	if err == nil {
		return nil
	}
	kind := error(nil)
	for word, k := range map[string]error{
		"READONLY": persist.ErrReadOnly, "NOAUTH": persist.ErrUnavailable, "WRONGPASS": persist.ErrUnavailable, "NOPERM": persist.ErrUnavailable,
	} {
		if goredis.HasErrorPrefix(err, word) {
			kind = k
		}
	}
	if goredis.HasErrorPrefix(err, "DB index is out of range") {
		kind = persist.ErrInvalid // a database that the server does not have
	}
	if kind == nil {
		return translate(op, s.name, false, err)
	}
	var cause goredis.Error
	errors.As(err, &cause)
	return &persist.Error{Op: op, Object: s.name, Kind: kind, Err: cause}
}
