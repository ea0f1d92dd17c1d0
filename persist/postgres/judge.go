package postgres

import "github.com/oncemq/oncemq/persist"

// judged are the settings with what they mean for what was committed.
func (d *serverSettings) judged() []persist.Setting {
	fsync := persist.Setting{Name: "fsync", Value: d.fsync}
	if d.fsync != "on" {
		fsync.Risk, fsync.Loses, fsync.Remedy = persist.RiskPower, "the loss of power may destroy the store", "set fsync=on"
	}
	pages := persist.Setting{Name: "full_page_writes", Value: d.fullPageWrites}
	if d.fullPageWrites != "on" {
		pages.Risk, pages.Loses = persist.RiskPower, "the loss of power in the middle of a write may damage the store"
		pages.Remedy = "set full_page_writes=on"
	}
	commit := persist.Setting{Name: "synchronous_commit", Value: d.synchronousCommit}
	if d.synchronousCommit == "off" {
		commit.Risk, commit.Loses = persist.RiskCrash, "a crash of the server may take the last commits"
		commit.Remedy = "set synchronous_commit=on, for this role if not for all"
	}
	standbys := persist.Setting{Name: "synchronous_standby_names", Value: d.standbys}
	switch {
	case d.standbys == "":
		standbys.Risk, standbys.Loses = persist.RiskFailover, "a failover to a standby may lose the last commits"
		standbys.Remedy = "name a synchronous standby if there is to be a failover"
	case d.synchronousCommit == "local":
		standbys.Risk, standbys.Loses = persist.RiskFailover, "commits do not wait for the standby, so that a failover may lose the last ones"
		standbys.Remedy = "set synchronous_commit=on"
	}
	return []persist.Setting{fsync, pages, commit, standbys}
}
