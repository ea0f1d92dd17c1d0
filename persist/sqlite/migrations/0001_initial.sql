-- Purpose: the tables of the first release. They are named oncemq_ here; that
-- is replaced by the prefix the store was opened with. Times are milliseconds
-- since 1970 by the store's clock.

-- What was settled when the store was created: schema, identity, lanes.
CREATE TABLE oncemq_meta (
  name  TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: what is counted for the whole store. claim_epoch is the highest
-- epoch of a claim; completed and in_work count processed keys; sweep_* is how far
-- ExpireProcessed has come.
CREATE TABLE oncemq_totals (
  one           INTEGER PRIMARY KEY CHECK (one = 1),
  claim_epoch   INTEGER NOT NULL DEFAULT 0,
  failed        INTEGER NOT NULL DEFAULT 0,
  expired       INTEGER NOT NULL DEFAULT 0,
  consumer_dead INTEGER NOT NULL DEFAULT 0,
  completed     INTEGER NOT NULL DEFAULT 0,
  in_work       INTEGER NOT NULL DEFAULT 0,
  sweep_group   INTEGER NOT NULL DEFAULT 0,
  sweep_key     ANY NOT NULL DEFAULT ''
) STRICT;
INSERT INTO oncemq_totals (one) VALUES (1);

-- next is the position of the lane's next message. epoch is the highest given
-- out, holder the one whose lease was not released (0 if it was).
CREATE TABLE oncemq_lanes (
  lane        INTEGER PRIMARY KEY,
  next        INTEGER NOT NULL,
  epoch       INTEGER NOT NULL DEFAULT 0,
  holder      INTEGER NOT NULL DEFAULT 0,
  owner       TEXT NOT NULL DEFAULT '',
  lease_until INTEGER NOT NULL DEFAULT 0,
  pending     INTEGER NOT NULL DEFAULT 0,
  delivered   INTEGER NOT NULL DEFAULT 0,
  dropped     INTEGER NOT NULL DEFAULT 0,
  superseded  INTEGER NOT NULL DEFAULT 0,
  bytes       INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Messages that are pending (state 0) or delivered and await a receipt
-- (state 1). due is NULL for one that may be sent in its place; else the time
-- from which Next hands it out. id is NULL unless the message is idempotent or
-- asked for a receipt. skey is NULL unless the next message of its ordering key
-- takes the message's place: a hash of the key, until the message is handed out.
-- body is the encoding of internal/wire; bytes of a lane are those of its bodies.
CREATE TABLE oncemq_outbox (
  position    INTEGER PRIMARY KEY,
  state       INTEGER NOT NULL DEFAULT 0,
  due         INTEGER,
  expires     INTEGER,
  enqueued_at INTEGER NOT NULL,
  attempts    INTEGER NOT NULL DEFAULT 0,
  last_error  TEXT,
  last_at     INTEGER,
  first_error TEXT,
  first_at    INTEGER,
  id          TEXT,
  receipt     INTEGER NOT NULL DEFAULT 0,
  droppable   INTEGER NOT NULL DEFAULT 0,
  skey        BLOB,
  body        BLOB NOT NULL
) STRICT;
-- Partial, so that a plain message has no index entry at all.
CREATE INDEX oncemq_outbox_due ON oncemq_outbox (due) WHERE due IS NOT NULL;
CREATE INDEX oncemq_outbox_id ON oncemq_outbox (id) WHERE id IS NOT NULL;
CREATE INDEX oncemq_outbox_droppable ON oncemq_outbox (position) WHERE droppable = 1;
CREATE INDEX oncemq_outbox_skey ON oncemq_outbox (skey) WHERE skey IS NOT NULL;

-- The latest messages that were dropped (state 5) or superseded (state 6), in the
-- order in which they were.
CREATE TABLE oncemq_gave_way (
  number   INTEGER PRIMARY KEY AUTOINCREMENT,
  position INTEGER NOT NULL,
  state    INTEGER NOT NULL
) STRICT;
CREATE INDEX oncemq_gave_way_position ON oncemq_gave_way (position);

CREATE TABLE oncemq_groups (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- state is 0 for a key in work, 1 for a completed one, 2 for a released one, 3 for
-- one that was completed with a dead letter. until ends the lease or the window. key is TEXT, or the SHA-256 of a long key
-- as BLOB: SQLite never takes the one for the other.
CREATE TABLE oncemq_processed (
  group_id INTEGER NOT NULL,
  key      ANY NOT NULL,
  state    INTEGER NOT NULL,
  epoch    INTEGER NOT NULL,
  owner    TEXT,
  until    INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  PRIMARY KEY (group_id, key)
) STRICT, WITHOUT ROWID;

-- states is the encoding of internal/wire; NULL or empty if there are none. It is
-- a few bytes, since exchanges begin and end nearly in order. number is that of the
-- save which they are of.
CREATE TABLE oncemq_sessions (
  id        INTEGER PRIMARY KEY,
  client_id TEXT NOT NULL UNIQUE,
  epoch     INTEGER NOT NULL,
  number    INTEGER NOT NULL DEFAULT 0,
  states    BLOB
) STRICT;

-- side is 1 for the outbox and 2 for consumers, state 3 for failed and 4 for
-- expired. expiry is the message's, in milliseconds. first_at and last_at are 0 if
-- there is no such error. AUTOINCREMENT, because a number is a cursor and must not come twice.
CREATE TABLE oncemq_dead_letters (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  side        INTEGER NOT NULL,
  state       INTEGER NOT NULL,
  position    INTEGER,
  group_name  TEXT,
  key         TEXT,
  reason_code INTEGER NOT NULL,
  reason      TEXT NOT NULL,
  attempts    INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  first_error TEXT NOT NULL DEFAULT '',
  first_at    INTEGER NOT NULL DEFAULT 0,
  last_error  TEXT NOT NULL DEFAULT '',
  last_at     INTEGER NOT NULL DEFAULT 0,
  expiry      INTEGER NOT NULL DEFAULT 0,
  body        BLOB NOT NULL
) STRICT;
CREATE INDEX oncemq_dead_letters_position ON oncemq_dead_letters (position) WHERE position IS NOT NULL;

-- Triggers keep the totals right whichever way a letter comes or goes.
CREATE TRIGGER oncemq_dead_letters_added AFTER INSERT ON oncemq_dead_letters BEGIN
  UPDATE oncemq_totals SET
    failed = failed + (NEW.side = 1 AND NEW.state = 3),
    expired = expired + (NEW.side = 1 AND NEW.state = 4),
    consumer_dead = consumer_dead + (NEW.side = 2);
END;
CREATE TRIGGER oncemq_dead_letters_removed AFTER DELETE ON oncemq_dead_letters BEGIN
  UPDATE oncemq_totals SET
    failed = failed - (OLD.side = 1 AND OLD.state = 3),
    expired = expired - (OLD.side = 1 AND OLD.state = 4),
    consumer_dead = consumer_dead - (OLD.side = 2);
END;
