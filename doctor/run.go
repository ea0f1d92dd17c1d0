package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// Run looks at what the configuration names, tries it out, and tidies up. That
// something is not as it should be is no error but a finding; the error wraps
// [autopaho.ErrConfig] or persist.ErrInvalid, or is the context's, and the report then
// has what was found until then.
func Run(ctx context.Context, cfg Config) (Report, error) {
	var r Report
	if err := cfg.Validate(); err != nil {
		return r, err
	}
	cfg.setDefaults()
	if cfg.Store != "" {
		if err := examineStore(ctx, &cfg, &r); err != nil {
			return r, err
		}
	}
	if len(cfg.Broker.Servers) > 0 {
		e := &examiner{cfg: &cfg, report: &r, name: random(), sessions: make(map[string]struct{})}
		if err := e.run(ctx); err != nil {
			return r, err
		}
	}
	r.judge()
	return r, ctx.Err()
}

func random() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// examiner tries out a broker. It is used by one goroutine.
type examiner struct {
	cfg    *Config
	report *Report
	name   string // random, of topics and client IDs
	server *url.URL
	limits session.Limits
	pub    *session.Probe // for publishing

	sessions map[string]struct{} // client IDs that the broker may know
	retained bool                // the retained message may be there
}

func (e *examiner) topic(name string) string { return e.cfg.TopicPrefix + "/" + e.name + "/" + name }

// open connects under a name; what the broker keeps of it is ended by tidy.
func (e *examiner) open(ctx context.Context, name string, clean bool, expiry uint32) (*session.Probe, error) {
	cfg := e.cfg.session()
	cfg.ClientID, cfg.CleanStart, cfg.SessionExpiry = e.cfg.IDPrefix+e.name+"-"+name, clean, expiry
	if expiry > 0 {
		e.sessions[name] = struct{}{}
	}
	return session.OpenProbe(ctx, cfg, e.server)
}

// run makes the first connection and then one step after another.
func (e *examiner) run(ctx context.Context) error {
	servers, err := e.cfg.servers()
	if err != nil {
		return fmt.Errorf("%w: Servers: %w", autopaho.ErrConfig, err)
	}
	var first *session.Probe
	for _, u := range servers {
		bare := *u
		bare.User = nil
		e.server = &bare
		e.report.Broker = bare.Redacted()
		e.report.Findings = slices.DeleteFunc(e.report.Findings, func(f Finding) bool { return f.ID == "broker.encryption" }) // of the one before
		examineBrokerWay(e.report, &bare, len(e.cfg.Broker.Password) > 0 || e.cfg.Broker.Credentials != nil)
		began := time.Now()
		if first, err = e.open(ctx, "limits", true, uint32(e.cfg.Broker.SessionExpiry/time.Second)); err == nil {
			e.report.add("broker.connect", OK, fmt.Sprintf("MQTT 5, connected in %s", rounded(time.Since(began))), "", all()...)
			break
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		e.unusable(err)
		return nil
	}
	defer e.tidy(ctx)
	e.limits = first.Limits
	examineLimits(e.report, &e.limits, e.cfg)
	// The session is of no use any more.
	end, cancel := context.WithTimeout(ctx, e.cfg.Patience)
	defer cancel()
	if first.End(end) == nil {
		delete(e.sessions, "limits")
	}
	for _, step := range []struct {
		id  string
		run func(context.Context) error
		off bool
	}{
		{"broker.throughput", e.throughput, false},
		{"session.kept", e.session, e.limits.MaximumQoS == 0},
		{"session.takeover", e.takeover, false},
		{"qos2.resumed", e.exactly, e.limits.MaximumQoS < 2},
		{"retained.kept", e.retain, !e.limits.RetainAvailable},
		{"shared.shares", e.shared, !e.limits.SharedAvailable || e.limits.MaximumQoS == 0},
		{"wildcard.matches", e.wildcard, !e.limits.WildcardAvailable},
		{"message.expiry", e.expiry, e.cfg.Quick || e.limits.MaximumQoS == 0},
		{"restart.session", e.restart, e.cfg.Restart == nil || e.limits.MaximumQoS == 0},
	} {
		if step.off {
			continue
		}
		if err := e.step(ctx, step.run); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// Without the promises that rest on it they would seem to hold.
			e.report.add(step.id, Warn, "cannot be tried out: "+err.Error(), e.remedy(err), needing(step.id)...)
		}
	}
	if e.cfg.Restart == nil {
		e.report.add("restart", Info, "what the broker keeps across a restart was not tried out", "")
	}
	return nil
}

// all are the promises that rest on a connection.
func all() []string {
	var ids []string
	for _, p := range promises() {
		if p.ID != promiseTx {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// step runs one step on a connection for publishing.
func (e *examiner) step(ctx context.Context, run func(context.Context) error) error {
	pub, err := e.open(ctx, "pub", true, 0)
	if err != nil {
		return err
	}
	defer pub.Drop()
	e.pub = pub
	return run(ctx)
}

// remedy is for a step that was not possible.
func (e *examiner) remedy(err error) string {
	var refused *session.SubscribeError
	if errors.As(err, &refused) && refused.Code == 0x87 || errors.Is(err, errNotAllowed) {
		return fmt.Sprintf("allow this user to publish and to subscribe below %s/, or name another prefix", e.cfg.TopicPrefix)
	}
	return ""
}

// errNotAllowed: publishing to the topic is refused.
var errNotAllowed = errors.New("not authorized to publish")

// unusable is a broker that cannot be connected to.
func (e *examiner) unusable(err error) {
	e.report.BrokerErr = err
	remedy := "check host, port, credentials and TLS"
	if errors.Is(err, session.ErrOldProtocol) {
		remedy = "oncemq needs MQTT 5: use a broker that has it, or switch it on"
	}
	e.report.add("broker.connect", Bad, err.Error(), remedy, all()...)
}

// within bounds a wait for what should come.
func (e *examiner) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.cfg.Patience)
}

// publish publishes at QoS 1, and tells whether anybody subscribes, as far as the
// broker says so.
func (e *examiner) publish(ctx context.Context, m persist.Message) (heard bool, err error) {
	if m.QoS == 0 {
		m.QoS = min(1, e.limits.MaximumQoS)
	}
	ctx, cancel := e.within(ctx)
	defer cancel()
	code, err := e.pub.Publish(ctx, &m)
	if code == 0x87 {
		return false, errNotAllowed
	}
	return code != noSubscribers, err
}

// noSubscribers is the reason code of a message that reaches nobody.
const noSubscribers = 0x10

// receive waits for a message; nil if none comes.
func (e *examiner) receive(ctx context.Context, p *session.Probe) (*session.Incoming, error) {
	short, cancel := e.within(ctx)
	defer cancel()
	in, err := p.Receive(short)
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil
	}
	return in, err
}

// subscribe subscribes, as a client would that keeps its session from one connection to
// the next: without a clean start, which mosquitto 2.0.11 remembers against it when it is
// restarted.
func (e *examiner) subscribe(ctx context.Context, name, filter string) (*session.Probe, error) {
	p, err := e.open(ctx, name, false, keepFor)
	if err != nil {
		return nil, err
	}
	ctx, cancel := e.within(ctx)
	defer cancel()
	if err := p.Subscribe(ctx, filter, 0); err != nil {
		p.Drop()
		return nil, err
	}
	return p, nil
}

// tidy leaves nothing behind in the broker, also after the caller's context has ended.
func (e *examiner) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*e.cfg.Patience)
	defer cancel()
	var errs []error
	if e.retained {
		errs = append(errs, e.step(ctx, func(ctx context.Context) error {
			_, err := e.publish(ctx, persist.Message{Topic: e.topic("retained"), Retain: true})
			return err
		}))
	}
	for name := range e.sessions {
		p, err := e.open(ctx, name, true, 0)
		if err == nil {
			err = p.End(ctx)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		e.report.add("broker.tidy", Warn, "something of this run may be left behind: "+firstLine(err),
			fmt.Sprintf("the broker ends the sessions in %d minutes; a retained message may be on %s", keepFor/60, e.topic("retained")))
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// rounded is a duration with two or three digits.
func rounded(d time.Duration) time.Duration {
	unit := time.Microsecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
