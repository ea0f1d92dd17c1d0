-- Purpose: store a dead letter.
-- Parameters: ?1 side, ?2 state, ?3 position, ?4 group, ?5 key, ?6 reason code,
-- ?7 reason, ?8 attempts, ?9 at, ?10 first error, ?11 its time, ?12 last error,
-- ?13 its time, ?14 expiry, ?15 body.
-- Result: changes one row.
INSERT INTO oncemq_dead_letters
  (side, state, position, group_name, key, reason_code, reason, attempts, at,
   first_error, first_at, last_error, last_at, expiry, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
