package autopaho

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/oncemq/oncemq/qos"
)

// Middleware makes a handler of a handler: one that logs, measures, or turns some
// errors into others before or after the inner one runs.
type Middleware func(Handler) Handler

// Router is a list of routes, each a topic filter with its handler, and with
// workers, attempts and group of its own if it likes. [Router.Start] makes a
// subscription of each, all in the client's one MQTT session.
//
// Routes are independent, as subscriptions are in MQTT: a message that the filters
// of several routes match goes to each of them, and is acknowledged when all are
// through with it. Where one route is to win, write filters that do not overlap.
// Routes of one group share the keys of what was processed, so that one would take
// the other's message for a duplicate: with a store, Start refuses two that overlap
// and have the same group.
//
// A router is a description: it may be started on several clients. Its methods are
// not safe for concurrent use.
type Router struct {
	defaults   SubscribeConfig
	middleware []Middleware
	routes     []RouteConfig
	notFound   Handler
}

// RouteConfig describes a route.
type RouteConfig struct {
	// Name is for errors and [Routes.Stats]. Default: the filter.
	Name string
	// SubscribeConfig are the router's defaults with the route's filter and handler.
	SubscribeConfig
	// Middleware is around this route's Handler, inside the router's. A
	// BatchHandler and a TxHandler have none.
	Middleware []Middleware
}

// RouteOption changes a route.
type RouteOption func(*RouteConfig)

// NewRouter makes a router without routes. The defaults hold for every route that
// does not say otherwise; their Filters and handlers are not used.
func NewRouter(defaults SubscribeConfig) *Router {
	defaults.Filters, defaults.Handler, defaults.BatchHandler, defaults.TxHandler = nil, nil, nil, nil
	return &Router{defaults: defaults}
}

// Use adds middleware around the Handler of every route, and around that of
// NotFound, whenever it was added. The first is the outermost.
func (r *Router) Use(m ...Middleware) { r.middleware = append(r.middleware, m...) }

// Handle adds a route.
func (r *Router) Handle(filter string, h Handler, options ...RouteOption) {
	r.add(filter, func(c *RouteConfig) {
		c.Handler = h
		c.MaxBatch, c.MaxWait = 0, 0
	}, options)
}

// HandleBatch adds a route whose handler gets many messages at once.
func (r *Router) HandleBatch(filter string, h BatchHandler, options ...RouteOption) {
	r.add(filter, func(c *RouteConfig) {
		c.BatchHandler = h
		c.Workers = 0
	}, options)
}

// HandleTx adds a route whose handler works in a transaction of the store's
// database: see [InTx] and [BatchInTx].
func (r *Router) HandleTx(filter string, h TxHandler, options ...RouteOption) {
	r.add(filter, func(c *RouteConfig) {
		c.TxHandler = h
		c.Workers = 0
		if h == nil || !h.batch() {
			c.MaxBatch, c.MaxWait = 0, 0
		}
	}, options)
}

func (r *Router) add(filter string, set RouteOption, options []RouteOption) {
	c := RouteConfig{Name: filter, SubscribeConfig: r.defaults}
	c.Filters = []string{filter}
	set(&c)
	for _, o := range options {
		o(&c)
	}
	r.routes = append(r.routes, c)
}

// NotFound sets the handler of messages that no subscription of the client wants:
// those of a subscription that an earlier process made in the session that the
// broker has kept. It runs once for each, one after another, and again only if the
// message comes again because the connection ended before its acknowledgement. With an
// error the message becomes a dead letter if there is a store, as soon as that takes it.
// Without such a handler they do so after 10 s.
//
// Such a message is no router's, so one router of a client has a NotFound at a time:
// Start refuses another until the routes of the first are closed.
func (r *Router) NotFound(h Handler) { r.notFound = h }

// WithPolicy takes level, attempts and backoff of a policy for a route: the level
// is the highest at which the broker may send. What the policy leaves open stays.
func WithPolicy(p qos.Policy) RouteOption {
	return func(c *RouteConfig) {
		if p.Level != nil {
			c.QoS, c.AtMostOnce = byte(*p.Level), *p.Level == qos.AtMostOnce
		}
		if p.Attempts != 0 {
			c.Attempts = p.Attempts
		}
		if p.Backoff != (qos.Backoff{}) {
			c.Backoff = p.Backoff
		}
	}
}

// WithWorkers has so many handlers of a route run at once.
func WithWorkers(n int) RouteOption { return func(c *RouteConfig) { c.Workers = n } }

// WithGroup puts a route into a group of its own.
func WithGroup(group string) RouteOption { return func(c *RouteConfig) { c.Group = group } }

// WithMiddleware adds middleware around one route's Handler.
func WithMiddleware(m ...Middleware) RouteOption {
	return func(c *RouteConfig) { c.Middleware = append(c.Middleware, m...) }
}

// Start subscribes to all routes, and returns once the broker has agreed to each.
// What a session holds from an earlier process is kept until then. After an error
// none of them is left.
//
// The error wraps ErrConfig and lists every fault of every route; is a
// *SubscribeError if the broker refused a filter; wraps ErrRefused, ErrClosed or
// the context's error.
func (r *Router) Start(ctx context.Context, c *Client) (*Routes, error) {
	if err := r.validate(&c.cfg); err != nil {
		return nil, fmt.Errorf("start router: %w", err)
	}
	if err := c.begin(); err != nil {
		return nil, fmt.Errorf("start router: %w", err)
	}
	defer c.calls.Done()
	in, err := c.ensureConsumer()
	if err != nil {
		return nil, fmt.Errorf("start router: %w", err)
	}
	routes := &Routes{consumer: in, all: make([]*runningRoute, len(r.routes))}
	if r.notFound != nil {
		if !in.takeUnrouted() {
			return nil, fmt.Errorf("start router: %w: router: another router of this client has a NotFound, and a client has one; "+
				"close its Routes first, or leave out this one", ErrConfig)
		}
		routes.notFound.Store(true)
	}
	in.gather(len(r.routes))
	type answer struct {
		sub *Subscription
		err error
	}
	answers := make([]chan answer, len(r.routes))
	for i := range r.routes {
		running := &runningRoute{name: r.routes[i].Name, filters: r.routes[i].Filters}
		routes.all[i], answers[i] = running, make(chan answer, 1)
		cfg := running.counted(&r.routes[i], r.middleware)
		// All at once: what the broker has kept for one must not wait for the
		// answers to those before it.
		go func() {
			added := sync.OnceFunc(in.gathered)
			defer added() // also if it never came so far
			sub, err := c.subscribe(ctx, cfg, added)
			answers[i] <- answer{sub, err}
		}()
	}
	var errs []error
	for i, a := range answers {
		got := <-a
		routes.all[i].sub = got.sub
		if got.err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", r.routes[i].Name, got.err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("start router: %w", errors.Join(err, routes.Close(ctx)))
	}
	if r.notFound != nil {
		in.handleUnrouted(wrapped(r.notFound, r.middleware))
	}
	return routes, nil
}

// validate lists the faults of all routes.
func (r *Router) validate(client *Config) error {
	var errs []error
	if len(r.routes) == 0 {
		errs = append(errs, fmt.Errorf("%w: router: has no routes; add one with Handle", ErrConfig))
	}
	names := make(map[string]bool, len(r.routes))
	for i := range r.routes {
		c := &r.routes[i]
		if err := c.validate(client); err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", c.Name, err))
			continue
		}
		if names[c.Name] {
			errs = append(errs, fmt.Errorf("%w: router: there are two routes %s; give one another Name", ErrConfig, c.Name))
		}
		names[c.Name] = true
		for j := range i {
			if other := &r.routes[j]; client.Store != nil && c.Group != "" && c.Group == other.Group && overlap(c.Filters, other.Filters) {
				errs = append(errs, fmt.Errorf("%w: router: the routes %s and %s overlap and share the group %s, so that one "+
					"would take the other's messages for duplicates; give one another group, or filters that do not overlap",
					ErrConfig, other.Name, c.Name, c.Group))
			}
		}
	}
	return errors.Join(errs...)
}

func overlap(a, b []string) bool {
	for _, f := range a {
		for _, g := range b {
			if qos.Overlap(f, g) {
				return true
			}
		}
	}
	return false
}

// wrapped is a handler inside its middleware.
func wrapped(h Handler, middleware []Middleware) Handler {
	for i := len(middleware) - 1; i >= 0; i-- {
		h = middleware[i](h)
	}
	return h
}

// Routes are the routes of a router that was started.
type Routes struct {
	consumer *consumer
	all      []*runningRoute
	notFound atomic.Bool // they have the client's
}

// runningRoute is a route that was started.
type runningRoute struct {
	name    string
	filters []string
	sub     *Subscription // nil if it could not be made

	handled, failed atomic.Uint64
	running         atomic.Int64
}

// RouteStats count the runs of a route's handler since it was started.
type RouteStats struct {
	Name    string
	Filters []string
	// Handled counts messages with which the handler, middleware included, has
	// ended without an error, Failed those runs that ended with an error or in a
	// panic. A message may fail several times. Those of a TxHandler are not
	// counted.
	Handled, Failed uint64
	// Running is in how many messages' handlers the route is now.
	Running int64
}

// counted is the route's subscription with a handler that counts.
func (r *runningRoute) counted(c *RouteConfig, middleware []Middleware) SubscribeConfig {
	cfg := c.SubscribeConfig
	if cfg.Handler != nil {
		h := wrapped(wrapped(cfg.Handler, c.Middleware), middleware)
		cfg.Handler = func(ctx context.Context, m *Received) (err error) {
			r.running.Add(1)
			returned := false
			defer func() { r.ended(1, returned && err == nil) }()
			err = h(ctx, m)
			returned = true
			return err
		}
	}
	if h := cfg.BatchHandler; h != nil {
		cfg.BatchHandler = func(ctx context.Context, msgs []*Received) (err error) {
			n := len(msgs)
			r.running.Add(int64(n))
			returned := false
			defer func() { r.ended(n, returned && err == nil) }()
			err = h(ctx, msgs)
			returned = true
			return err
		}
	}
	return cfg
}

func (r *runningRoute) ended(messages int, well bool) {
	r.running.Add(-int64(messages))
	if well {
		r.handled.Add(uint64(messages))
	} else {
		r.failed.Add(uint64(messages))
	}
}

// Stats are those of the routes, in the order in which they were added.
func (r *Routes) Stats() []RouteStats {
	stats := make([]RouteStats, len(r.all))
	for i, route := range r.all {
		stats[i] = RouteStats{
			Name: route.name, Filters: route.filters,
			Handled: route.handled.Load(), Failed: route.failed.Load(), Running: route.running.Load(),
		}
	}
	return stats
}

// Subscription is the subscription of a route; nil if there is no route of that
// name.
func (r *Routes) Subscription(name string) *Subscription {
	for _, route := range r.all {
		if route.name == name {
			return route.sub
		}
	}
	return nil
}

// Close ends all routes as [Subscription.Close] ends one. Client.Close does so too.
func (r *Routes) Close(ctx context.Context) error {
	if r.notFound.Swap(false) {
		r.consumer.leaveUnrouted()
	}
	errs := make([]error, len(r.all))
	done := make(chan struct{})
	for i, route := range r.all {
		go func() {
			if route.sub != nil {
				errs[i] = route.sub.Close(ctx)
			}
			done <- struct{}{}
		}()
	}
	for range r.all {
		<-done
	}
	return errors.Join(errs...)
}
