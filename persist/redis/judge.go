package redis

import (
	"fmt"
	"strconv"

	"github.com/oncemq/oncemq/persist"
)

// hiddenValue is the value of a setting that a server does not show.
const hiddenValue = "unknown"

// judged are the settings with what they mean for what was stored.
func (v *server) judged(opts Options) []persist.Setting {
	file := persist.Setting{Name: "appendonly", Value: v.appendOnly}
	switch v.appendOnly {
	case "no":
		file.Risk, file.Loses = persist.RiskCrash, "a restart of the server loses what came after its last snapshot, perhaps everything"
		file.Remedy = "set appendonly yes"
	case "":
		unknown(&file)
	}
	fsync := persist.Setting{Name: "appendfsync", Value: v.fsync}
	switch {
	case v.appendOnly == "no":
		fsync.Value = "" // it has no meaning then
	case v.fsync == "everysec":
		fsync.Risk, fsync.Loses, fsync.Remedy = persist.RiskPower, "the loss of power may take about the last second", "set appendfsync always"
	case v.fsync == "no":
		fsync.Risk, fsync.Loses = persist.RiskPower, "the loss of power may take what the operating system had not written"
		fsync.Remedy = "set appendfsync always"
	case v.fsync == "":
		unknown(&fsync)
	}
	policy := persist.Setting{Name: "maxmemory-policy", Value: v.policy}
	switch {
	case evicts(v.policy):
		policy.Risk, policy.Loses = persist.RiskCrash, "the server deletes messages when its memory is full"
		policy.Remedy = "set maxmemory-policy noeviction"
	case v.policy == "":
		unknown(&policy)
	}
	replicas := persist.Setting{
		Name: "wait_replicas", Value: strconv.Itoa(opts.WaitReplicas), Risk: persist.RiskFailover,
		Loses: "a failover to a replica may lose the latest changes",
	}
	if opts.WaitReplicas > 0 {
		replicas.Loses = fmt.Sprintf("%d replicas confirm each change, and a failover may lose changes all the same", opts.WaitReplicas)
	} else {
		replicas.Remedy = "wait_replicas=1 in the URL lowers the odds; no setting of Redis rules it out, a synchronous standby of PostgreSQL does"
	}
	all := []persist.Setting{file}
	if fsync.Value != "" {
		all = append(all, fsync)
	}
	return append(all, policy, replicas)
}

// unknown is a setting of a server that does not show its configuration.
func unknown(s *persist.Setting) {
	s.Value, s.Risk = hiddenValue, persist.RiskFailover
	s.Loses = "the server does not show it, so that how much a loss of power or a restart takes is unknown"
	s.Remedy = "allow this user +config|get, or look it up in the provider's documentation"
}
