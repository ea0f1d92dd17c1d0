//go:build !failpoint

package failpoint

// Enabled tells whether this program was built with the tag failpoint.
const Enabled = false

// Load reads the environment; without the tag there is nothing to read.
func Load() error { return nil }

// Hit does what the environment asks for at a point; without the tag nothing.
func Hit(Point) {}

// Err is Hit for a place that can fail; without the tag it is nil.
func Err(Point) error { return nil }

// Mutant tells whether a rule is to be broken; without the tag it is not.
func Mutant(Rule) bool { return false }
