//go:build race

package autopaho_test

// raceSlows is by how much the race detector slows down what has to be in time.
const raceSlows = 4
