-- Purpose: store dead letters.
-- Parameters: $1 sides, $2 states, $3 positions (0: none), $4 groups, $5 keys, $6
-- reason codes, $7 reasons, $8 attempts, $9 first errors, $10 their times, $11 last
-- errors, $12 their times, $13 expiries, $14 bodies.
-- Result: changes as many rows.
INSERT INTO oncemq.dead_letters (side, state, position, group_name, key, reason_code, reason, attempts, at,
  first_error, first_at, last_error, last_at, expiry, body)
SELECT d.side, d.state, nullif(d.position, 0), d.group_name, d.key, d.reason_code, d.reason, d.attempts,
  (SELECT oncemq.now_ms()), d.first_error, d.first_at, d.last_error, d.last_at, d.expiry, d.body
FROM unnest($1::smallint[], $2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::smallint[], $7::bytea[], $8::int[],
  $9::bytea[], $10::bigint[], $11::bytea[], $12::bigint[], $13::bigint[], $14::bytea[]) WITH ORDINALITY
  AS d (side, state, position, group_name, key, reason_code, reason, attempts, first_error, first_at, last_error, last_at,
    expiry, body, n)
ORDER BY d.n
