-- Purpose: make few rows of many. What others work on is left.
-- Parameters: none.
-- Result: changes the rows that are added.
WITH found AS MATERIALIZED (
  SELECT ctid FROM oncemq.arrivals LIMIT 10000 FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM oncemq.arrivals WHERE ctid = ANY (ARRAY(SELECT ctid FROM found))
  RETURNING lane, pending, bytes, delivered, dropped, superseded
)
INSERT INTO oncemq.arrivals (lane, pending, bytes, delivered, dropped, superseded)
SELECT lane, sum(pending), sum(bytes), sum(delivered), sum(dropped), sum(superseded) FROM gone GROUP BY lane
