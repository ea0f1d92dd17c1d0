package sqlite

import (
	"path/filepath"

	"github.com/oncemq/oncemq/persist"
)

// judged are the settings with what they mean for what was committed. The journal
// mode is that of the file, empty if there is none yet: it will be wal.
func judged(path, journal string, opts Options) []persist.Setting {
	mode := persist.Setting{Name: "journal_mode", Value: journal}
	switch journal {
	case "wal":
	case "":
		mode.Value = "wal"
	case "off", "memory":
		mode.Risk, mode.Loses = persist.RiskCrash, "a crash in the middle of a transaction may damage the file"
		mode.Remedy = "let oncemq open the file, which sets journal_mode=wal"
	default: // delete, truncate, persist: as durable, and slow
	}
	sync := persist.Setting{Name: "synchronous", Value: opts.Synchronous.pragma()}
	if opts.Synchronous == SynchronousNormal {
		sync.Risk, sync.Loses = persist.RiskPower, "the loss of power may take the last commits"
		sync.Remedy = "leave synchronous=normal out of the URL"
	}
	system := persist.Setting{Name: "file system"}
	name, kind := fileSystem(filepath.Dir(path))
	system.Value = name
	switch kind {
	case fsNetwork:
		system.Risk, system.Loses = persist.RiskCrash, "SQLite's locks and its write-ahead log do not work on network file systems, and two processes may damage the file"
		system.Remedy = "put the file on a local disk, or use PostgreSQL"
	case fsMemory:
		system.Risk, system.Loses = persist.RiskPower, "it is in memory: a restart of the machine loses everything"
		system.Remedy = "put the file on a disk"
	case fsUnknown:
		if name == "" {
			system.Value = "unknown"
		}
	case fsLocal:
	}
	return []persist.Setting{mode, sync, system}
}

// fsKind is what matters of a file system.
type fsKind int

const (
	fsUnknown fsKind = iota
	fsLocal
	fsMemory
	fsNetwork
)
