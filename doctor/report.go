package doctor

import "strings"

// Severity tells what a finding means.
type Severity string

// The severities, from good to bad.
const (
	// OK: as it should be.
	OK Severity = "ok"
	// Info: worth knowing; no promise rests on it.
	Info Severity = "info"
	// Warn: a promise is weakened, or could not be tried out.
	Warn Severity = "warn"
	// Bad: a promise does not hold.
	Bad Severity = "bad"
)

// worse tells whether s is worse than t.
func (s Severity) worse(t Severity) bool {
	const order = "ok info warn bad"
	return strings.Index(order, string(s)) > strings.Index(order, string(t))
}

// Finding is one thing that was looked at.
type Finding struct {
	// ID names what was looked at, always the same: "broker.receive-maximum".
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	// Text says what was found and what it means, Remedy what to change; the
	// latter may be empty.
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
	// Promises are the IDs of the promises that rest on it.
	Promises []string `json:"promises,omitempty"`
}

// State tells whether a promise holds.
type State string

// The states of a promise.
const (
	// Holds: everything that it rests on was found in order.
	Holds State = "holds"
	// Weakened: see the findings that concern it.
	Weakened State = "weakened"
	// Broken: it does not hold.
	Broken State = "does not hold"
	// Unavailable: this kind of store does not have it.
	Unavailable State = "not available"
	// Untested: what it rests on was not looked at.
	Untested State = "not tested"
)

// Promise is one of the promises of oncemq, and whether it holds here.
type Promise struct {
	ID    string `json:"id"`
	Text  string `json:"text"`
	State State  `json:"state"`
	// Because are the IDs of the findings for which it does not hold, or not
	// fully; Change is what to do about it.
	Because []string `json:"because,omitempty"`
	Change  []string `json:"change,omitempty"`
}

// Report is what was found.
type Report struct {
	// Broker is the URL of the broker without user information, Store names the
	// store's server; empty if it was not looked at.
	Broker string `json:"broker,omitempty"`
	Store  string `json:"store,omitempty"`
	// Findings are in the order in which things were looked at.
	Findings []Finding `json:"findings"`
	// Promises are all of them, in the order of the README.
	Promises []Promise `json:"promises"`
	// Verdict says it in a sentence or two.
	Verdict string `json:"verdict"`
	// BrokerErr and StoreErr tell why the broker or the store cannot be used at
	// all; nil if they can.
	BrokerErr error `json:"-"`
	StoreErr  error `json:"-"`
}

// Worst is the worst severity of all findings.
func (r *Report) Worst() Severity {
	worst := OK
	for i := range r.Findings {
		if r.Findings[i].Severity.worse(worst) {
			worst = r.Findings[i].Severity
		}
	}
	return worst
}

// Finding returns the finding of an ID; nil if that was not looked at.
func (r *Report) Finding(id string) *Finding {
	for i := range r.Findings {
		if r.Findings[i].ID == id {
			return &r.Findings[i]
		}
	}
	return nil
}

func (r *Report) add(id string, s Severity, text, remedy string, promises ...string) {
	r.Findings = append(r.Findings, Finding{ID: id, Severity: s, Text: text, Remedy: remedy, Promises: promises})
}
