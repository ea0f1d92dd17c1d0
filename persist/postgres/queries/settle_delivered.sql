-- Purpose: delete delivered messages that ask for no receipt, and keep the others
-- until it comes. Between the two positions of a range there is no message but
-- those that were settled. That all are gone is the rule, and then nobody looks
-- for others.
-- Parameters: $1 lane, $2 epoch, $3 and $4 first and last positions, $5 time-outs
-- (0: none), $6 number of the messages, $7 the earliest time to send one again.
-- Result: none.
WITH gone AS (
  DELETE FROM oncemq.outbox o USING unnest($3::bigint[], $4::bigint[]) AS r (first, last)
  WHERE o.position BETWEEN r.first AND r.last AND NOT o.receipt
    AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
  RETURNING octet_length(o.body) AS bytes
), kept AS (
  UPDATE oncemq.outbox o SET state = 1,
    due = CASE r.timeout WHEN 0 THEN 9223372036854775807 ELSE greatest((SELECT oncemq.now_ms()) + r.timeout, $7::bigint) END
  FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS r (first, last, timeout)
  WHERE (SELECT count(*) FROM gone) < $6::bigint
    AND o.position BETWEEN r.first AND r.last AND o.receipt AND o.state = 0
    AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
  RETURNING 1
)
UPDATE oncemq.lanes l SET pending = pending - g.n - k.n, delivered = delivered + k.n, bytes = l.bytes - g.bytes
FROM (SELECT count(*) AS n, coalesce(sum(bytes), 0) AS bytes FROM gone) g, (SELECT count(*) AS n FROM kept) k
WHERE lane = $1::smallint AND holder = $2::bigint AND g.n + k.n > 0
