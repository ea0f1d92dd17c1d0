//go:build !race

package autopaho_test

const raceSlows = 1
