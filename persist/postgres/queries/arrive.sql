-- Purpose: count what is about to be added to lanes. It comes before the first
-- position is taken: see the lane's gaps.
-- Parameters: $1 lanes, $2 how many to each, $3 their bytes.
-- Result: changes as many rows.
INSERT INTO oncemq.arrivals (lane, pending, bytes) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[])
