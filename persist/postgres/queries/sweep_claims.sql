-- Purpose: forget released keys whose lease would have ended, and keys that nobody
-- completed long after it did. What others work on is left.
-- Parameters: $1 and $2 group and key after which to begin, $3 number of keys to
-- look at, $4 how long after its lease an uncompleted key is remembered.
-- Result: as of sweep_processed.
WITH t AS MATERIALIZED (SELECT oncemq.now_ms() AS now), page AS MATERIALIZED (
  SELECT group_id, key FROM oncemq.claims
  WHERE (group_id, key) > ($1::int, $2::bytea) ORDER BY group_id, key LIMIT $3::bigint
), free AS MATERIALIZED (
  SELECT c.group_id, c.key FROM page, oncemq.claims c, t
  WHERE c.group_id = page.group_id AND c.key = page.key
    AND c.until <= CASE WHEN c.released THEN t.now ELSE t.now - $4::bigint END
  FOR UPDATE OF c SKIP LOCKED
), gone AS (
  DELETE FROM oncemq.claims c USING free, t
  WHERE c.group_id = free.group_id AND c.key = free.key
    AND c.until <= CASE WHEN c.released THEN t.now ELSE t.now - $4::bigint END
  RETURNING 1
), last AS (SELECT group_id, key FROM page ORDER BY group_id DESC, key DESC LIMIT 1)
SELECT (SELECT count(*) FROM page), (SELECT group_id FROM last), (SELECT key FROM last), (SELECT count(*) FROM gone)
