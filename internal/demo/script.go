package demo

import "math/rand/v2"

// script is what is to happen, drawn from the seed.
type script struct {
	// quota is how many unacknowledged messages a replica gets, so that others
	// wait in the broker.
	quota int
	// holds is how many acknowledged messages the broker is to hold when it is
	// killed.
	holds int
	lives []act
}

// act is one life of the broker. All but the last end with a kill.
type act struct {
	// flow is how many messages are published while everything works, surge how
	// many while nothing comes back from the replicas.
	flow, surge int
	// progress is how many effects there must be in this life before the gate
	// closes.
	progress int
	// killReplica has a replica killed in this life.
	killReplica bool
}

// newScript spreads the messages over one life more than there are kills.
func newScript(messages, kills int, seed uint64) script {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // the same seed is to give the same script
	lives := kills + 1
	weights := make([]float64, lives)
	total := 0.0
	for i := range weights {
		weights[i] = 0.8 + 0.4*random.Float64()
		total += weights[i]
	}
	s := script{lives: make([]act, lives)}
	least, left := messages, messages
	for i := range s.lives {
		n := int(float64(messages) * weights[i] / total)
		if i == lives-1 {
			n = left
		}
		left -= n
		a := &s.lives[i]
		a.surge = int(float64(n) * (0.35 + 0.15*random.Float64()))
		a.flow = n - a.surge
		a.progress = max(1, int(float64(a.flow)*(0.3+0.4*random.Float64())))
		least = min(least, a.surge)
	}
	s.lives[kills/2].killReplica = true
	// A surge fills both replicas and leaves the rest in the broker, even half
	// a surge, which is what there is in the life in which a replica is killed.
	s.quota = min(32, max(1, least/8))
	s.holds = min(200, max(1, least/2-len(replicaNames)*s.quota))
	return s
}
