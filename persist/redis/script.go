package redis

import (
	"context"
	"embed"
	"fmt"
	"path"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed scripts/*.lua scripts/include/*.lua
var luaFiles embed.FS

// script is a step of the store, run in the server as a whole.
type script struct {
	*goredis.Script
	text string
	// changes tells that it may change the store, so that a lost answer leaves
	// its outcome open.
	changes bool
}

// scripts are all scripts, see the headers of their files.
type scripts struct {
	open *script

	enqueue, retry, lookup                      *script
	laneAcquire, laneRenew, laneRelease, lanes  *script
	next, resend, settle, acknowledge, relays   *script
	claim, claimRenew, claimRelease             *script
	complete, forget                            *script
	sweep, sweepWork, sweepAt, sweepUsed, swept *script
	sessionLoad, sessionSave, sessionSaveHeld   *script
	deadAdd, deadList, deadGet, deadDelete      *script
	outboxList, outboxPurge, stats, time        *script
}

// loadScripts reads the scripts. clock, unless it is empty, is the text that
// takes the place of include/clock.lua.
func loadScripts(clock string) (*scripts, error) {
	s := &scripts{}
	for name, place := range map[string]**script{
		"enqueue": &s.enqueue, "retry": &s.retry,
		"lane_acquire": &s.laneAcquire, "lane_renew": &s.laneRenew, "lane_release": &s.laneRelease,
		"resend": &s.resend, "settle": &s.settle, "acknowledge": &s.acknowledge, "relays": &s.relays,
		"claim": &s.claim, "claim_renew": &s.claimRenew, "claim_release": &s.claimRelease,
		"complete": &s.complete, "forget": &s.forget,
		"sweep": &s.sweep, "sweep_work": &s.sweepWork, "sweep_save": &s.swept,
		"session_load": &s.sessionLoad, "session_save": &s.sessionSave, "session_save_held": &s.sessionSaveHeld,
		"dead_add": &s.deadAdd, "dead_delete": &s.deadDelete, "outbox_purge": &s.outboxPurge,
	} {
		if err := load(place, name, clock, true); err != nil {
			return nil, err
		}
	}
	for name, place := range map[string]**script{
		"lookup": &s.lookup, "lane_list": &s.lanes, "sweep_at": &s.sweepAt, "sweep_used": &s.sweepUsed,
		"dead_list": &s.deadList, "dead_get": &s.deadGet, "outbox_list": &s.outboxList, "stats": &s.stats,
		"time": &s.time,
		// What it creates it finds when it is run again.
		"open": &s.open,
		// It counts that a page was read. If that is lost, so is the page.
		"next": &s.next,
	} {
		if err := load(place, name, clock, false); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func load(place **script, name, clock string, changes bool) error {
	text, err := luaFiles.ReadFile(path.Join("scripts", name+".lua"))
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		part, found := strings.CutPrefix(line, "--#include ")
		if !found {
			b.WriteString(line)
			continue
		}
		part = strings.TrimSpace(part)
		if part == "clock" && clock != "" {
			b.WriteString(clock)
			continue
		}
		included, err := luaFiles.ReadFile(path.Join("scripts", "include", part+".lua"))
		if err != nil {
			return fmt.Errorf("script %s: %w", name, err)
		}
		b.Write(included)
	}
	*place = &script{Script: goredis.NewScript(b.String()), text: b.String(), changes: changes}
	return nil
}

// onceCommand is a command that the client does not repeat by itself. It would
// after a connection that died, when the command may have been carried out. What
// was redirected or refused it still sends where it belongs.
type onceCommand struct{ *goredis.Cmd }

// NoRetry is what the client asks.
func (onceCommand) NoRetry() bool { return true }

// call runs a script by its digest, and with its text if the server does not
// know it (any more).
func (s *Store) call(ctx context.Context, sc *script, names []string, args []any) (any, error) {
	answer, err := s.send(ctx, sc, "evalsha", sc.Hash(), names, args)
	if goredis.HasErrorPrefix(err, "NOSCRIPT") {
		answer, err = s.send(ctx, sc, "eval", sc.text, names, args)
	}
	return answer, err
}

func (s *Store) send(ctx context.Context, sc *script, command, text string, names []string, args []any) (any, error) {
	words := make([]any, 0, 3+len(names)+len(args))
	words = append(words, command, text, len(names))
	for _, name := range names {
		words = append(words, name)
	}
	words = append(words, args...)
	cmd := onceCommand{goredis.NewCmd(ctx, words...)}
	cmd.SetFirstKeyPos(3)
	if s.opts.WaitReplicas > 0 && sc.changes {
		if err := s.sendAndWait(ctx, cmd); err != nil {
			return nil, err
		}
		return cmd.Val(), nil
	}
	if err := s.client.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}
