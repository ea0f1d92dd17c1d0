package sqlite

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

//go:embed queries/*.sql migrations/*.sql
var sqlFiles embed.FS

// defaultPrefix begins the names of the tables in the embedded SQL.
const defaultPrefix = "oncemq_"

// statement is one SQL statement. Its address is what a connection knows it by.
type statement struct {
	name, text string
}

// queries are the statements of a store, with the prefix of its tables.
type queries struct {
	begin, commit, rollback                           *statement
	savepoint, savepointRelease, savepointRollback    *statement
	writeLock, walMode                                *statement
	metaTable, metaGet, metaPut                       *statement
	laneCreate, laneList, laneAcquire, laneRenew      *statement
	laneRelease, laneHolder, laneExtend, laneCount    *statement
	outboxTotal, outboxByID, outboxDroppable          *statement
	outboxDelete, outboxState, outboxFates            *statement
	outboxBytes, outboxHand, outboxThere, settleBytes *statement
	supersede, supersededBy                           *statement
	gaveWayAdd, gaveWayForget                         *statement
	outboxOldest, purgeEnd, purge                     *statement
	pageInOrder, pageLate, pageChosen                 *statement
	pageListed, pageByID                              *statement
	settleDelivered, settleAwaiting                   *statement
	settleRetry, settleDead, outboxResend             *statement
	receiptFind, receiptDelete                        *statement
	groupGet, groupAdd, groupList                     *statement
	claimEpoch, claimGet, claimPut, claimRenew        *statement
	claimComplete, claimRelease, claimForget          *statement
	sweepFrom, sweepEnd, sweepDelete, sweepDeleteRest *statement
	sweepSave, claimAdd, claimDead, claimForgetDead   *statement
	sessionLoad, sessionSave                          *statement
	deadAdd, deadList, deadKey, deadDelete, deadPurge *statement
	totals, keysCount, claimCompleteAgain             *statement
	relayList, relayPut, relayDelete                  *statement

	insertPlain, insertFull, insertClaims chunks
}

// chunks is a multi-row statement in several sizes, largest first, the last of
// one row. SQLite has no way to bind a list of rows, so that these statements
// alone are generated: the text for n rows is n times the same.
type chunks []chunk

type chunk struct {
	rows int
	*statement
}

// loadQueries reads the embedded statements and puts the prefix in.
func loadQueries(prefix string) (*queries, error) {
	q := &queries{}
	for file, dst := range q.files() {
		text, err := sqlFiles.ReadFile(path.Join("queries", file+".sql"))
		if err != nil {
			return nil, fmt.Errorf("read embedded statement: %w", err)
		}
		*dst = &statement{name: file, text: withPrefix(withoutHeader(string(text)), prefix)}
	}
	// Positions of a chunk are consecutive, so that only the first is bound.
	q.insertPlain = generate("insert_plain", prefix,
		"INSERT INTO oncemq_outbox (position, enqueued_at, body) VALUES ",
		func(i int) string { return fmt.Sprintf("(?1+%d, ?2, ?)", i) }, "")
	q.insertFull = generate("insert_full", prefix,
		"INSERT INTO oncemq_outbox (position, enqueued_at, due, expires, id, receipt, droppable, skey, body) VALUES ",
		func(i int) string { return fmt.Sprintf("(?1+%d, ?2, ?, ?, ?, ?, ?, ?, ?)", i) }, "")
	q.insertClaims = generate("insert_claims", prefix,
		"INSERT INTO oncemq_processed (group_id, epoch, owner, until, state, attempts, key) VALUES ",
		func(int) string { return "(?1, ?2, ?3, ?4, 0, 1, ?)" },
		" ON CONFLICT (group_id, key) DO NOTHING")
	return q, nil
}

// files maps the name of each file in queries to its field.
func (q *queries) files() map[string]**statement {
	return map[string]**statement{
		"begin":              &q.begin,
		"commit":             &q.commit,
		"rollback":           &q.rollback,
		"savepoint":          &q.savepoint,
		"savepoint_release":  &q.savepointRelease,
		"savepoint_rollback": &q.savepointRollback,
		"wal_mode":           &q.walMode,
		"write_lock":         &q.writeLock,
		"meta_table":         &q.metaTable,
		"meta_get":           &q.metaGet,
		"meta_put":           &q.metaPut,
		"lane_create":        &q.laneCreate,
		"lane_list":          &q.laneList,
		"lane_acquire":       &q.laneAcquire,
		"lane_renew":         &q.laneRenew,
		"lane_release":       &q.laneRelease,
		"lane_holder":        &q.laneHolder,
		"lane_extend":        &q.laneExtend,
		"lane_count":         &q.laneCount,
		"outbox_total":       &q.outboxTotal,
		"outbox_by_id":       &q.outboxByID,
		"outbox_droppable":   &q.outboxDroppable,
		"outbox_delete":      &q.outboxDelete,
		"outbox_state":       &q.outboxState,
		"outbox_resend":      &q.outboxResend,
		"outbox_fates":       &q.outboxFates,
		"outbox_oldest":      &q.outboxOldest,
		"outbox_bytes":       &q.outboxBytes,
		"outbox_hand":        &q.outboxHand,
		"outbox_there":       &q.outboxThere,
		"supersede":          &q.supersede,
		"superseded_by":      &q.supersededBy,
		"gave_way_add":       &q.gaveWayAdd,
		"gave_way_forget":    &q.gaveWayForget,
		"settle_bytes":       &q.settleBytes,
		"purge_end":          &q.purgeEnd,
		"purge":              &q.purge,
		"page_in_order":      &q.pageInOrder,
		"page_late":          &q.pageLate,
		"page_chosen":        &q.pageChosen,
		"page_listed":        &q.pageListed,
		"page_by_id":         &q.pageByID,
		"settle_delivered":   &q.settleDelivered,
		"settle_awaiting":    &q.settleAwaiting,
		"settle_retry":       &q.settleRetry,
		"settle_dead":        &q.settleDead,
		"receipt_find":       &q.receiptFind,
		"receipt_delete":     &q.receiptDelete,
		"group_get":          &q.groupGet,
		"group_add":          &q.groupAdd,
		"group_list":         &q.groupList,
		"claim_epoch":        &q.claimEpoch,
		"claim_add":          &q.claimAdd,
		"claim_get":          &q.claimGet,
		"claim_put":          &q.claimPut,
		"claim_renew":        &q.claimRenew,
		"claim_complete":     &q.claimComplete,
		"claim_done_again":   &q.claimCompleteAgain,
		"claim_release":      &q.claimRelease,
		"claim_forget":       &q.claimForget,
		"claim_forget_dead":  &q.claimForgetDead,
		"claim_dead":         &q.claimDead,
		"sweep_from":         &q.sweepFrom,
		"sweep_end":          &q.sweepEnd,
		"sweep_delete":       &q.sweepDelete,
		"sweep_delete_rest":  &q.sweepDeleteRest,
		"sweep_save":         &q.sweepSave,
		"session_load":       &q.sessionLoad,
		"session_save":       &q.sessionSave,
		"dead_add":           &q.deadAdd,
		"dead_list":          &q.deadList,
		"dead_delete":        &q.deadDelete,
		"dead_key":           &q.deadKey,
		"dead_purge":         &q.deadPurge,
		"totals":             &q.totals,
		"keys_count":         &q.keysCount,
		"relay_list":         &q.relayList,
		"relay_put":          &q.relayPut,
		"relay_delete":       &q.relayDelete,
	}
}

// generate writes a multi-row statement in the sizes that batches are cut into.
func generate(name, prefix, head string, row func(i int) string, tail string) chunks {
	var all chunks
	for _, rows := range []int{128, 16, 1} {
		var b strings.Builder
		b.WriteString(head)
		for i := range rows {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(row(i))
		}
		b.WriteString(tail)
		all = append(all, chunk{rows: rows, statement: &statement{
			name: fmt.Sprintf("%s_%d", name, rows),
			text: withPrefix(b.String(), prefix),
		}})
	}
	return all
}

// each cuts n rows into the sizes there are, largest first.
func (c chunks) each(n int, fn func(stmt *statement, from, to int) error) error {
	from := 0
	for _, chunk := range c {
		for n-from >= chunk.rows {
			if err := fn(chunk.statement, from, from+chunk.rows); err != nil {
				return err
			}
			from += chunk.rows
		}
	}
	return nil
}

func withPrefix(text, prefix string) string {
	return strings.ReplaceAll(text, defaultPrefix, prefix)
}

// withoutHeader drops the comment lines, which SQLite need not read.
func withoutHeader(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "--") {
			b.WriteString(line)
		}
	}
	return strings.TrimSpace(b.String())
}
