//go:build race

package sqlite

// raceEnabled: SQLite in Go is more than ten times slower under the race
// detector, so that what is only more of the same is cut short.
const raceEnabled = true
