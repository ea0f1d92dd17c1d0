package load

import "fmt"

// Ratio is one figure of a result beside that of an earlier one.
type Ratio struct {
	Figure string  `json:"figure"` // "delivered rate", "delivered p99"
	Before float64 `json:"before"`
	Now    float64 `json:"now"`
	// Ratio is Now by Before; zero if there is no Before.
	Ratio float64 `json:"ratio"`
}

// Compare sets a result beside an earlier one of the same kind. Differences are what was
// set otherwise then, a few words each: such figures compare with care.
func (r *Result) Compare(before *Result) (ratios []Ratio, differences []string, err error) {
	if r.Kind != before.Kind {
		return nil, nil, fmt.Errorf("it is one of bench %s, not of bench %s", before.Kind, r.Kind)
	}
	differ := func(name string, now, then any) {
		if now != then {
			differences = append(differences, fmt.Sprintf("%s %v, now %v", name, then, now))
		}
	}
	differ("durable", r.Durable, before.Durable)
	differ("store", r.Store, before.Store)
	differ("clients", r.Clients, before.Clients)
	differ("subscribers", r.Subscribers, before.Subscribers)
	differ("QoS", r.QoS, before.QoS)
	differ("size", r.Size, before.Size)
	differ("rate", r.Rate, before.Rate)
	add := func(figure string, then, now float64) {
		ratio := Ratio{Figure: figure, Before: then, Now: now}
		if then > 0 {
			ratio.Ratio = now / then
		}
		ratios = append(ratios, ratio)
	}
	for i := range r.Phases {
		now := &r.Phases[i]
		then := before.Phase(now.Name)
		if then == nil {
			continue
		}
		add(now.Name+" rate", then.Rate, now.Rate)
		add(now.Name+" p50", then.Latency.P50, now.Latency.P50)
		add(now.Name+" p99", then.Latency.P99, now.Latency.P99)
		add(now.Name+" max", then.Latency.Max, now.Latency.Max)
	}
	return ratios, differences, nil
}
