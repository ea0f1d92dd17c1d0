-- Purpose: forget keys whose window has closed. What others work on is left.
-- Parameters: $1 and $2 group and key after which to begin, $3 number of keys to
-- look at.
-- Result: one row: how many were looked at, group and key of the last, how many
-- were forgotten.
WITH t AS MATERIALIZED (SELECT oncemq.now_ms() AS now), page AS MATERIALIZED (
  SELECT group_id, key, until FROM oncemq.processed
  WHERE (group_id, key) > ($1::int, $2::bytea) ORDER BY group_id, key LIMIT $3::bigint
), free AS MATERIALIZED (
  SELECT p.group_id, p.key FROM page, oncemq.processed p, t
  WHERE page.until <= t.now AND p.group_id = page.group_id AND p.key = page.key AND p.until <= t.now
  FOR UPDATE OF p SKIP LOCKED
), gone AS (
  DELETE FROM oncemq.processed p USING free, t
  WHERE p.group_id = free.group_id AND p.key = free.key AND p.until <= t.now
  RETURNING 1
), last AS (SELECT group_id, key FROM page ORDER BY group_id DESC, key DESC LIMIT 1)
SELECT (SELECT count(*) FROM page), (SELECT group_id FROM last), (SELECT key FROM last), (SELECT count(*) FROM gone)
