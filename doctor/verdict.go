package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// The IDs of the promises.
const (
	promiseEnqueue = "enqueue"
	promiseEffect  = "effect"
	promiseExactly = "exactly-once"
	promiseAway    = "away"
	promiseGroup   = "group"
	promiseTx      = "transaction"
	promiseRelays  = "relays"
	promiseRestart = "broker-restart"
)

// stored are the promises that rest on the store.
func stored() []string {
	return []string{promiseEnqueue, promiseEffect, promiseExactly, promiseGroup, promiseTx, promiseRelays}
}

// promises are all promises with the findings that each cannot do without.
func promises() []struct {
	Promise
	needs []string
} {
	return []struct {
		Promise
		needs []string
	}{
		{Promise{ID: promiseEnqueue, Text: "an accepted message reaches the broker, whatever dies"}, []string{"broker.maximum-qos", "store.schema"}},
		{Promise{ID: promiseEffect, Text: "with receipts, an accepted message is processed, whatever the broker forgets"}, []string{"broker.maximum-qos", "store.schema"}},
		{Promise{ID: promiseExactly, Text: "QoS 2 is exactly once on the wire while the broker keeps the session"}, []string{"qos2.resumed", "store.schema"}},
		{Promise{ID: promiseAway, Text: "a subscriber that is away loses nothing"}, []string{"session.kept"}},
		{Promise{ID: promiseGroup, Text: "replicas share the work, and a completed message is not processed again"}, []string{"shared.shares", "store.schema"}},
		{Promise{ID: promiseTx, Text: "messages and effects commit with the application's own transaction"}, []string{"store.transactions"}},
		{Promise{ID: promiseRelays, Text: "several relays, each lane drained by one of them"}, []string{"session.takeover", "store.schema"}},
		{Promise{ID: promiseRestart, Text: "what the broker acknowledged outlives its restart (without receipts it rests on that)"}, []string{"restart.session"}},
	}
}

// needing are the promises that cannot do without a finding.
func needing(id string) []string {
	var ids []string
	for _, p := range promises() {
		if slices.Contains(p.needs, id) {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// judge says of each promise whether it holds, and sums up.
func (r *Report) judge() {
	var weak, broken, untested []string
	for _, p := range promises() {
		promise := p.Promise
		worst := OK
		for i := range r.Findings {
			f := &r.Findings[i]
			if !slices.Contains(f.Promises, promise.ID) || !f.Severity.worse(Info) {
				continue
			}
			promise.Because = append(promise.Because, f.ID)
			if f.Remedy != "" && !slices.Contains(promise.Change, f.Remedy) {
				promise.Change = append(promise.Change, f.Remedy)
			}
			if f.Severity.worse(worst) {
				worst = f.Severity
			}
		}
		missing := slices.ContainsFunc(p.needs, func(id string) bool { return r.Finding(id) == nil })
		switch {
		case promise.ID == promiseTx && !missing && r.Finding("store.transactions").Severity == Info:
			// What is not there at all nothing else makes worse.
			promise.State, promise.Because, promise.Change = Unavailable, nil, nil
		case worst == Bad:
			promise.State = Broken
			broken = append(broken, promise.ID)
		case worst == Warn:
			promise.State = Weakened
			weak = append(weak, promise.ID)
		case missing:
			promise.State = Untested
			untested = append(untested, promise.ID)
		default:
			promise.State = Holds
		}
		r.Promises = append(r.Promises, promise)
	}
	r.Verdict = r.sum(weak, broken, untested)
}

func (r *Report) sum(weak, broken, untested []string) string {
	var parts []string
	switch {
	case r.BrokerErr != nil && r.StoreErr != nil:
		parts = append(parts, "neither the broker nor the store can be used")
	case r.BrokerErr != nil:
		parts = append(parts, "the broker cannot be used")
	case r.StoreErr != nil:
		parts = append(parts, "the store cannot be used")
	}
	if len(broken) > 0 {
		parts = append(parts, fmt.Sprintf("does not hold: %s", strings.Join(broken, ", ")))
	}
	if len(weak) > 0 {
		parts = append(parts, fmt.Sprintf("weakened: %s", strings.Join(weak, ", ")))
	}
	switch {
	case len(parts) > 0:
	case len(untested) > 0:
		parts = append(parts, "every promise that was looked at holds")
	default:
		parts = append(parts, "every promise holds with this broker and this store")
	}
	if len(untested) > 0 {
		parts = append(parts, fmt.Sprintf("not tested: %s", strings.Join(untested, ", ")))
	}
	return strings.Join(parts, "; ")
}
