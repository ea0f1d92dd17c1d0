//go:build race

package fleet

import "time"

// loadAllowance is what a machine that does other things as well may add, and
// the race detector.
const loadAllowance = 4 * time.Second
