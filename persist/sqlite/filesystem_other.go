//go:build !linux

package sqlite

// fileSystem is not asked for here.
func fileSystem(string) (name string, kind fsKind) { return "", fsUnknown }
