//go:build !race

package fleet

import "time"

// loadAllowance is what a machine that does other things as well may add.
const loadAllowance = time.Second
