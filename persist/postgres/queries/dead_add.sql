-- Purpose: store dead letters.
-- Parameters: $1 sides, $2 states, $3 positions (0: none), $4 groups, $5 keys, $6
-- reason codes, $7 reasons, $8 attempts, $9 bodies.
-- Result: changes as many rows.
INSERT INTO oncemq.dead_letters (side, state, position, group_name, key, reason_code, reason, attempts, at, body)
SELECT d.side, d.state, nullif(d.position, 0), d.group_name, d.key, d.reason_code, d.reason, d.attempts,
  (SELECT oncemq.now_ms()), d.body
FROM unnest($1::smallint[], $2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::smallint[], $7::bytea[], $8::int[],
  $9::bytea[]) WITH ORDINALITY AS d (side, state, position, group_name, key, reason_code, reason, attempts, body, n)
ORDER BY d.n
