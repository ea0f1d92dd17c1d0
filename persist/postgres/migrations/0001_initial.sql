-- Purpose: the tables of the first release. The schema is called oncemq here;
-- that is replaced by the name the store was opened with. Times are milliseconds
-- since 1970 by the clock of the server. What users may write into, names and
-- reasons, is bytea: text takes neither NUL nor what is not UTF-8.

-- What was settled when the store was created: schema, identity, lanes.
CREATE TABLE oncemq.meta (
  name  text PRIMARY KEY,
  value text NOT NULL
);

-- The store's clock. It moves within a transaction, unlike now().
CREATE FUNCTION oncemq.now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$ SELECT trunc(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- For what must see all that others have committed before it: a transaction of a
-- caller that reads by one snapshot does not.
CREATE FUNCTION oncemq.demand_read_committed() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE 'the transaction is %, must be read committed', current_setting('transaction_isolation')
    USING ERRCODE = 'invalid_transaction_state';
  END IF;
END $$;

-- One row that lasts as long as the server loses nothing. It is unlogged: recovery
-- after a crash and the promotion of a standby empty it, and both may take back
-- what was seen before. A sequence may be seen at a number of which nothing was
-- written yet, and without synchronous_commit, or a synchronous standby, so may a
-- commit.
CREATE UNLOGGED TABLE oncemq.life (
  one   boolean PRIMARY KEY DEFAULT true CHECK (one),
  token uuid NOT NULL
);
INSERT INTO oncemq.life (token) VALUES (gen_random_uuid());

-- epoch is the highest given out, holder the one whose lease was not released (0
-- if it was), life the token under which it was given out. positions is the
-- sequence of the lane. The counters lack what is in arrivals.
CREATE TABLE oncemq.lanes (
  epoch       bigint NOT NULL DEFAULT 0,
  holder      bigint NOT NULL DEFAULT 0,
  lease_until bigint NOT NULL DEFAULT 0,
  sent_until  bigint NOT NULL DEFAULT 0,
  pending     bigint NOT NULL DEFAULT 0,
  delivered   bigint NOT NULL DEFAULT 0,
  dropped     bigint NOT NULL DEFAULT 0,
  superseded  bigint NOT NULL DEFAULT 0,
  bytes       bigint NOT NULL DEFAULT 0,
  positions   regclass NOT NULL,
  lane        smallint PRIMARY KEY,
  life        uuid NOT NULL,
  owner       bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0);

-- What is to be added to the counters of a lane. Who does not hold the lane
-- inserts here, so that nobody waits for anybody else's transaction to count.
CREATE TABLE oncemq.arrivals (
  pending    bigint NOT NULL DEFAULT 0,
  bytes      bigint NOT NULL DEFAULT 0,
  delivered  integer NOT NULL DEFAULT 0,
  dropped    integer NOT NULL DEFAULT 0,
  superseded integer NOT NULL DEFAULT 0,
  lane       smallint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 2000,
  autovacuum_vacuum_cost_delay = 0);

-- Messages that are pending (state 0) or delivered and await a receipt (state 1).
-- A position is the number of the lane, shifted, and a counter. due is NULL for
-- one that may be sent in its place; else the time from which Next hands it out.
-- id is NULL unless the message is idempotent (once) or asked for a receipt. skey
-- is NULL unless the next message of its ordering key takes the message's place: a
-- hash of the key, until the message is handed out. size is that of the payload;
-- body is the encoding of internal/wire, kept as it is: compressing costs more than
-- it saves. bytes of a lane are those of its bodies.
CREATE TABLE oncemq.outbox (
  position    bigint PRIMARY KEY,
  enqueued_at bigint NOT NULL,
  attempts    integer NOT NULL DEFAULT 0,
  size        integer NOT NULL,
  state       smallint NOT NULL DEFAULT 0,
  receipt     boolean NOT NULL DEFAULT false,
  droppable   boolean NOT NULL DEFAULT false,
  once        boolean NOT NULL DEFAULT false,
  due         bigint,
  expires     bigint,
  id          bytea,
  skey        bytea,
  last_error  bytea,
  last_at     bigint,
  first_error bytea,
  first_at    bigint,
  body        bytea NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 1, autovacuum_vacuum_cost_delay = 0, toast.autovacuum_vacuum_cost_delay = 0);
ALTER TABLE oncemq.outbox ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN id SET STORAGE PLAIN;
-- Partial, so that a plain message has no index entry but that of its position.
CREATE INDEX outbox_due ON oncemq.outbox (due, position) WHERE due IS NOT NULL;
CREATE UNIQUE INDEX outbox_once ON oncemq.outbox (id) WHERE once;
CREATE INDEX outbox_id ON oncemq.outbox (id) WHERE id IS NOT NULL AND NOT once;
CREATE INDEX outbox_droppable ON oncemq.outbox (position) WHERE droppable AND state = 0;
CREATE INDEX outbox_skey ON oncemq.outbox (skey, position) WHERE skey IS NOT NULL;

-- The latest messages that were dropped (state 5) or superseded (state 6), in the
-- order in which they were.
CREATE TABLE oncemq.gave_way (
  number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  position bigint NOT NULL,
  state    smallint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX gave_way_position ON oncemq.gave_way (position);

-- key is the name, or a hash of a long one.
CREATE TABLE oncemq.groups (
  id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key  bytea NOT NULL UNIQUE,
  name bytea NOT NULL
);

CREATE SEQUENCE oncemq.claim_epochs AS bigint;

-- Keys in work, and released ones, which carry their attempts.
CREATE TABLE oncemq.claims (
  epoch    bigint NOT NULL,
  until    bigint NOT NULL,
  group_id integer NOT NULL,
  attempts integer NOT NULL,
  released boolean NOT NULL,
  key      bytea NOT NULL,
  owner    bytea NOT NULL,
  PRIMARY KEY (group_id, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 1, autovacuum_vacuum_cost_delay = 0);

-- Completed keys. epoch is that of the claim that completed the key; dead tells that
-- it ended with a dead letter.
CREATE TABLE oncemq.processed (
  epoch    bigint NOT NULL,
  until    bigint NOT NULL,
  group_id integer NOT NULL,
  dead     boolean NOT NULL DEFAULT false,
  key      bytea NOT NULL,
  PRIMARY KEY (group_id, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE oncemq.claims ALTER COLUMN key SET STORAGE PLAIN;
ALTER TABLE oncemq.processed ALTER COLUMN key SET STORAGE PLAIN;

-- One row: how far ExpireProcessed has come, in the table of completed keys
-- (part 0) or of claims (part 1).
CREATE TABLE oncemq.sweep (
  part     smallint NOT NULL,
  group_id integer NOT NULL,
  key      bytea NOT NULL
);
INSERT INTO oncemq.sweep VALUES (0, 0, '');

-- states is the encoding of internal/wire; empty if there are none. It is a few
-- bytes, since exchanges begin and end nearly in order. A row is written again and
-- again, with room for that on its page. number is that of the save which the states
-- are of.
CREATE TABLE oncemq.sessions (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  epoch     bigint NOT NULL,
  number    bigint NOT NULL,
  key       bytea NOT NULL UNIQUE,
  client_id bytea NOT NULL,
  states    bytea NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE oncemq.relays (
  key   bytea PRIMARY KEY,
  until bigint NOT NULL,
  owner bytea NOT NULL
);

-- side is 1 for the outbox and 2 for consumers, state 3 for failed and 4 for
-- expired. expiry is the message's, in milliseconds. first_at and last_at are 0 if
-- there is no such error.
CREATE TABLE oncemq.dead_letters (
  number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at          bigint NOT NULL,
  position    bigint,
  first_at    bigint NOT NULL DEFAULT 0,
  last_at     bigint NOT NULL DEFAULT 0,
  expiry      bigint NOT NULL DEFAULT 0,
  attempts    integer NOT NULL,
  side        smallint NOT NULL,
  state       smallint NOT NULL,
  reason_code smallint NOT NULL,
  group_name  bytea,
  key         bytea,
  reason      bytea NOT NULL,
  first_error bytea NOT NULL DEFAULT '',
  last_error  bytea NOT NULL DEFAULT '',
  body        bytea NOT NULL
);
ALTER TABLE oncemq.dead_letters ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX dead_letters_position ON oncemq.dead_letters (position) WHERE position IS NOT NULL;

-- How many dead letters there are is the sum of these rows: a row that all would
-- update would make them wait for each other's transactions.
CREATE TABLE oncemq.dead_counts (
  failed   bigint NOT NULL,
  expired  bigint NOT NULL,
  consumer bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Triggers keep the counts right whichever way a letter comes or goes.
CREATE FUNCTION oncemq.count_dead_letters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO oncemq.dead_counts
  SELECT s * count(*) FILTER (WHERE side = 1 AND state = 3), s * count(*) FILTER (WHERE side = 1 AND state = 4),
         s * count(*) FILTER (WHERE side = 2)
  FROM changed, (SELECT CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END) AS sign (s)
  GROUP BY s HAVING count(*) > 0;
  RETURN NULL;
END $$;
CREATE TRIGGER added AFTER INSERT ON oncemq.dead_letters
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION oncemq.count_dead_letters();
CREATE TRIGGER removed AFTER DELETE ON oncemq.dead_letters
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION oncemq.count_dead_letters();
