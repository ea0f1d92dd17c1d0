-- Purpose: make few rows of many. What others work on is left.
-- Parameters: none.
-- Result: changes one row at most.
WITH found AS MATERIALIZED (
  SELECT ctid FROM oncemq.dead_counts LIMIT 10000 FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM oncemq.dead_counts WHERE ctid = ANY (ARRAY(SELECT ctid FROM found)) RETURNING failed, expired, consumer
)
INSERT INTO oncemq.dead_counts SELECT sum(failed), sum(expired), sum(consumer) FROM gone HAVING count(*) > 0
