package fault

import (
	"context"
	"time"
)

// Scenarios are all scenarios, in the order in which they are best told. They are
// made for clients that come back by themselves.
func Scenarios() []Scenario {
	return append(networkScenarios(), brokerScenarios()...)
}

// networkScenarios are those in which only the network fails.
func networkScenarios() []Scenario {
	return []Scenario{
		{
			Name: "cut", Summary: "no connection for 5 s", Lasts: 5 * time.Second,
			play: func(ctx context.Context, p *play) error { return p.outage(ctx, 5*time.Second) },
		},
		{
			Name: "intermittent", Summary: "1 s without a connection, 1 s with one, for 10 s", Lasts: 10 * time.Second,
			play: func(ctx context.Context, p *play) error {
				return p.during(ctx, 10*time.Second, func(ctx context.Context) error {
					if err := p.outage(ctx, time.Second); err != nil {
						return err
					}
					p.o.Observe("up")
					return p.wait(ctx, time.Second)
				})
			},
		},
		{
			Name: "latency", Summary: "everything takes 500 ms longer, each way, for 8 s", Lasts: 8 * time.Second,
			play: func(ctx context.Context, p *play) error {
				p.both(func(m *MQTT, d Direction) { m.Latency(d, p.scaled(500*time.Millisecond)) })
				return p.wait(ctx, 8*time.Second)
			},
		},
		{
			Name: "loss", Summary: "30 % of the segments are lost and sent again after 200 ms, 400 ms, …, for 6 s", Lasts: 6 * time.Second,
			play: func(ctx context.Context, p *play) error {
				p.both(func(m *MQTT, d Direction) { m.Loss(d, 0.3, p.scaled(200*time.Millisecond), p.random.Uint64()) })
				return p.wait(ctx, 6*time.Second)
			},
		},
		{
			Name: "reset", Summary: "connections are reset in the middle of a packet, again and again for 6 s", Lasts: 6 * time.Second,
			play: func(ctx context.Context, p *play) error {
				return p.during(ctx, 6*time.Second, func(ctx context.Context) error {
					most := max(100, int64(4000*min(1, p.o.Scale))) // bytes that pass in the time
					p.each(func(m *MQTT) { m.CutAfter(Direction(p.random.IntN(2)), 1+p.random.Int64N(most), RST) })
					return p.wait(ctx, time.Second/2)
				})
			},
		},
		{
			Name: "half-open", Summary: "the other side is gone without a word for 5 s; its connections never end", Lasts: 5 * time.Second,
			play: func(ctx context.Context, p *play) error {
				p.each(func(m *MQTT) { m.BlackHole(true) })
				return p.wait(ctx, 5*time.Second)
			},
		},
		{
			Name: "slow-reader", Summary: "what the broker sends gets through at 4,000 bytes a second, for 8 s", Lasts: 8 * time.Second,
			play: func(ctx context.Context, p *play) error {
				p.each(func(m *MQTT) { m.Bandwidth(ToClient, 4000) })
				return p.wait(ctx, 8*time.Second)
			},
		},
		{
			Name: "slices", Summary: "everything arrives byte by byte, for 5 s", Lasts: 5 * time.Second,
			play: func(ctx context.Context, p *play) error {
				p.both(func(m *MQTT, d Direction) { m.Slice(d, 1) })
				return p.wait(ctx, 5*time.Second)
			},
		},
		{
			Name: "lost-puback", Summary: "now and then a PUBACK is lost and the connection with it, for 6 s", Lasts: 6 * time.Second,
			QoS: 1,
			play: func(ctx context.Context, p *play) error {
				return p.during(ctx, 6*time.Second, func(ctx context.Context) error {
					return p.snap(ctx, Trap{Direction: ToClient, Type: PUBACK, Cut: true})
				})
			},
		},
		{
			Name: "cut-after-pubrec", Summary: "now and then the connection ends after a PUBREC, for 6 s (QoS 2)", Lasts: 6 * time.Second,
			QoS: 2,
			play: func(ctx context.Context, p *play) error {
				return p.during(ctx, 6*time.Second, func(ctx context.Context) error {
					return p.snap(ctx, Trap{Direction: ToClient, Type: PUBREC, Keep: true, Cut: true})
				})
			},
		},
	}
}

// brokerScenarios are those in which the broker forgets.
func brokerScenarios() []Scenario {
	return []Scenario{
		{
			Name: "session-forgotten", Summary: "the broker forgets all sessions, and what it keeps in them, three times in 6 s",
			Lasts: 6 * time.Second, Forgets: true,
			play: func(ctx context.Context, p *play) error {
				for range 3 {
					if err := p.hold(ctx); err != nil {
						return err
					}
					for _, m := range p.proxies {
						if err := m.ForgetSessions(ctx); err != nil {
							return err
						}
					}
					p.letGo()
					p.o.Observe("sessions forgotten")
					if err := p.wait(ctx, time.Second); err != nil {
						return err
					}
				}
				return nil
			},
		},
		{
			Name: "broker-restart", Summary: "the broker is killed and stays away for 3 s, and has forgotten everything", Lasts: 4 * time.Second,
			Forgets: true, Restarts: true,
			play: func(ctx context.Context, p *play) error {
				if err := p.hold(ctx); err != nil {
					return err
				}
				if err := p.o.Broker.Kill(ctx); err != nil {
					return err
				}
				p.letGo()
				p.o.Observe("broker killed")
				waited := p.wait(ctx, 3*time.Second)
				// It is not left dead, whatever the context says.
				if err := p.o.Broker.Start(context.WithoutCancel(ctx)); err != nil {
					return err
				}
				p.o.Observe("broker started")
				return waited
			},
		},
	}
}

// outage has nobody connected for a time.
func (p *play) outage(ctx context.Context, d time.Duration) error {
	p.o.Observe("down")
	for _, m := range p.proxies {
		if err := m.Refuse(true); err != nil {
			return err
		}
		m.CutAll(RST)
	}
	waited := p.wait(ctx, d)
	for _, m := range p.proxies {
		if err := m.Refuse(false); err != nil {
			return err
		}
	}
	return waited
}
