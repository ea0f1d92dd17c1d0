package persist

import (
	"context"
	"time"
)

// Stats counts what a store holds.
type Stats struct {
	// Pending counts messages that await the broker, Delivered those that
	// await a receipt.
	Pending, Delivered int64
	// OldestPending is the age of the oldest pending message; zero if none.
	OldestPending time.Duration
	// Failed and Expired count dead letters of the outbox, ConsumerDead those
	// of consumers.
	Failed, Expired, ConsumerDead int64
	// Bytes are those of the pending and delivered messages as they are stored:
	// payload, topic, message ID and properties.
	Bytes int64
	// Limits are those of the store as it was opened here.
	Limits Limits
	// Dropped counts messages that gave way in a full outbox, ever [OUTBOX-9],
	// Superseded those in whose place a newer one of their key came [OUTBOX-14].
	Dropped, Superseded int64
	// Completed and InWork count processed keys; both may include keys whose
	// window or lease has ended and that were not swept yet. Of more than 100,000
	// PostgreSQL tells its own estimate, which is as old as the last time when the
	// table was vacuumed or analyzed; the others count exactly.
	Completed, InWork int64
	// Groups are the names of the groups that have claimed keys, ever, in the order
	// of their bytes.
	Groups []string
	// Lanes describes each lane.
	Lanes []LaneInfo
}

// ListRequest selects entries of the outbox.
type ListRequest struct {
	// Lane is the lane to list.
	Lane int
	// After skips entries up to that position: the cursor of a listing.
	After int64
	// Limit is the most entries to return; it must be positive.
	Limit int
	// States are those wanted; none means all. Only pending and delivered
	// messages are in the outbox: the rest are dead letters, or gone.
	States []State
}

// Admin is what operators ask of a store.
type Admin interface {
	// Stats counts what the store holds. It takes no more than a few reads of
	// indexes or counters, whatever the size of the store: metrics ask for it every
	// few seconds.
	Stats(ctx context.Context) (Stats, error)

	// ListOutbox returns entries of one lane in the order of their positions.
	ListOutbox(ctx context.Context, req ListRequest) ([]Entry, error)

	// GetOutbox returns the entries of a message ID; the error wraps
	// ErrNotFound if there is none. It may read the whole outbox.
	GetOutbox(ctx context.Context, id string) ([]Entry, error)

	// PurgeOutbox deletes up to limit entries of a lane that are in one of the
	// states, oldest first, and tells how many. Their messages are lost.
	PurgeOutbox(ctx context.Context, req ListRequest) (int, error)
}
