-- Purpose: delete what newer messages of its key supersede [OUTBOX-14]. All that
-- were added are there already, those of this transaction as well.
-- Parameters: $1 hashes of the keys.
-- Result: none.
WITH gone AS (
  DELETE FROM oncemq.outbox o USING unnest($1::bytea[]) AS k (skey)
  WHERE o.skey = k.skey AND o.position < (SELECT max(n.position) FROM oncemq.outbox n WHERE n.skey = k.skey)
  RETURNING o.position, octet_length(o.body) AS bytes
), remembered AS (
  INSERT INTO oncemq.gave_way (position, state) SELECT position, 6 FROM gone ORDER BY position
)
INSERT INTO oncemq.arrivals (lane, pending, superseded, bytes)
SELECT position >> 48, -count(*), count(*), -sum(bytes) FROM gone GROUP BY position >> 48
