package postgres

import (
	"embed"
	"fmt"
	"path"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed queries/*.sql migrations/*.sql
var sqlFiles embed.FS

// schemaMark stands for the schema in the embedded SQL.
const schemaMark = "oncemq."

// statement is one SQL statement.
type statement struct {
	name, text string
}

// queries are the statements of a store, with its schema.
type queries struct {
	steer, steerSave, steerBack, time, serverSettings   *statement
	standbyWait                                         *statement
	metaTable, metaList, metaPut, migrateLock           *statement
	rightsMissing                                       *statement
	laneCreate, laneSequences, laneList                 *statement
	laneAcquire, laneRenew, laneRelease                 *statement
	laneView, laneHold, laneFold, lifeBegin             *statement
	arrive, arriveTransaction, arrivalsCompact          *statement
	insertPlain, insertFull, insertOnce, insertRivals   *statement
	savepoint, savepointBack, savepointRelease          *statement
	limitLock, outboxTotal, outboxHeld                  *statement
	outboxDroppable, drop, outboxHand                   *statement
	supersedeLock, supersede, supersededBy              *statement
	settleSuperseded, gaveWayForget                     *statement
	outboxFates, outboxOldest, outboxResend             *statement
	pageInOrder, pageGaps, pageLate, pageChosen         *statement
	pageListed, pageByID                                *statement
	settleDelivered, settleRetry, settleDead            *statement
	receipts, purge                                     *statement
	groupAdd, groupList                                 *statement
	claimEpoch, claim, claimTake, claimLook, claimRenew *statement
	claimLock, forgetLock, lockPatience                 *statement
	claimRelease, claimForget                           *statement
	claimDead, claimForgetDead                          *statement
	complete, completeDead, mark                        *statement
	sweepFrom, sweepProcessed, sweepClaims, sweepSave   *statement
	processedCount                                      *statement
	sessionLoad, sessionSave, sessionSaveHeld           *statement
	relayPut, relayDelete, relayList                    *statement
	deadAdd, deadList, deadClaim, deadDelete            *statement
	deadPurge, deadCounts, deadCountsCompact            *statement
	notify                                              *statement
}

// loadQueries reads the embedded statements and puts the schema in. Their names
// have the schema in front, so that the search path of a connection, which may be
// the caller's, does not matter.
func loadQueries(schema string) (*queries, error) {
	q := &queries{}
	for file, dst := range q.files() {
		text, err := sqlFiles.ReadFile(path.Join("queries", file+".sql"))
		if err != nil {
			return nil, fmt.Errorf("read embedded statement: %w", err)
		}
		*dst = &statement{name: file, text: withSchema(withoutHeader(string(text)), schema)}
	}
	return q, nil
}

// files maps the name of each file in queries to its field.
func (q *queries) files() map[string]**statement {
	return map[string]**statement{
		"steer":               &q.steer,
		"steer_save":          &q.steerSave,
		"steer_back":          &q.steerBack,
		"time":                &q.time,
		"standby_wait":        &q.standbyWait,
		"server_settings":     &q.serverSettings,
		"meta_table":          &q.metaTable,
		"meta_list":           &q.metaList,
		"meta_put":            &q.metaPut,
		"migrate_lock":        &q.migrateLock,
		"rights_missing":      &q.rightsMissing,
		"lane_create":         &q.laneCreate,
		"lane_sequences":      &q.laneSequences,
		"lane_list":           &q.laneList,
		"lane_acquire":        &q.laneAcquire,
		"lane_renew":          &q.laneRenew,
		"lane_release":        &q.laneRelease,
		"lane_view":           &q.laneView,
		"lane_hold":           &q.laneHold,
		"lane_fold":           &q.laneFold,
		"life_begin":          &q.lifeBegin,
		"arrive":              &q.arrive,
		"arrive_transaction":  &q.arriveTransaction,
		"arrivals_compact":    &q.arrivalsCompact,
		"insert_plain":        &q.insertPlain,
		"insert_full":         &q.insertFull,
		"insert_once":         &q.insertOnce,
		"insert_rivals":       &q.insertRivals,
		"savepoint":           &q.savepoint,
		"savepoint_back":      &q.savepointBack,
		"savepoint_release":   &q.savepointRelease,
		"limit_lock":          &q.limitLock,
		"outbox_total":        &q.outboxTotal,
		"outbox_held":         &q.outboxHeld,
		"outbox_droppable":    &q.outboxDroppable,
		"outbox_hand":         &q.outboxHand,
		"drop":                &q.drop,
		"supersede_lock":      &q.supersedeLock,
		"supersede":           &q.supersede,
		"superseded_by":       &q.supersededBy,
		"settle_superseded":   &q.settleSuperseded,
		"gave_way_forget":     &q.gaveWayForget,
		"outbox_fates":        &q.outboxFates,
		"outbox_oldest":       &q.outboxOldest,
		"outbox_resend":       &q.outboxResend,
		"page_in_order":       &q.pageInOrder,
		"page_gaps":           &q.pageGaps,
		"page_late":           &q.pageLate,
		"page_chosen":         &q.pageChosen,
		"page_listed":         &q.pageListed,
		"page_by_id":          &q.pageByID,
		"settle_delivered":    &q.settleDelivered,
		"settle_retry":        &q.settleRetry,
		"settle_dead":         &q.settleDead,
		"receipts":            &q.receipts,
		"purge":               &q.purge,
		"group_add":           &q.groupAdd,
		"group_list":          &q.groupList,
		"claim_epoch":         &q.claimEpoch,
		"claim_lock":          &q.claimLock,
		"forget_lock":         &q.forgetLock,
		"lock_patience":       &q.lockPatience,
		"claim":               &q.claim,
		"claim_take":          &q.claimTake,
		"claim_look":          &q.claimLook,
		"claim_renew":         &q.claimRenew,
		"claim_release":       &q.claimRelease,
		"claim_forget":        &q.claimForget,
		"claim_dead":          &q.claimDead,
		"claim_forget_dead":   &q.claimForgetDead,
		"complete":            &q.complete,
		"complete_dead":       &q.completeDead,
		"mark":                &q.mark,
		"sweep_from":          &q.sweepFrom,
		"sweep_processed":     &q.sweepProcessed,
		"sweep_claims":        &q.sweepClaims,
		"sweep_save":          &q.sweepSave,
		"processed_count":     &q.processedCount,
		"session_load":        &q.sessionLoad,
		"session_save":        &q.sessionSave,
		"session_save_held":   &q.sessionSaveHeld,
		"relay_put":           &q.relayPut,
		"relay_delete":        &q.relayDelete,
		"relay_list":          &q.relayList,
		"dead_add":            &q.deadAdd,
		"dead_list":           &q.deadList,
		"dead_claim":          &q.deadClaim,
		"dead_delete":         &q.deadDelete,
		"dead_purge":          &q.deadPurge,
		"dead_counts":         &q.deadCounts,
		"dead_counts_compact": &q.deadCountsCompact,
		"notify":              &q.notify,
	}
}

// withSchema puts the schema, which was checked, in the place of the mark, quoted
// all the same.
func withSchema(text, schema string) string {
	return strings.ReplaceAll(text, schemaMark, pgx.Identifier{schema}.Sanitize()+".")
}

// withoutHeader drops the comment lines, which the server need not read.
func withoutHeader(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "--") {
			b.WriteString(line)
		}
	}
	return strings.TrimSpace(b.String())
}
