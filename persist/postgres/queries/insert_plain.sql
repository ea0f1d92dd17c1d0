-- Purpose: add messages of which nothing is asked but to be sent.
-- Parameters: $1 sequences of their lanes, $2 sizes of the payloads, $3 bodies.
-- Result: their positions, in the order of the parameters: WITH ORDINALITY makes
-- that order the planner's own.
INSERT INTO oncemq.outbox (position, enqueued_at, size, body)
SELECT nextval(m.sequence::oid::regclass), (SELECT oncemq.now_ms()), m.size, m.body
FROM unnest($1::bigint[], $2::int[], $3::bytea[]) WITH ORDINALITY AS m (sequence, size, body, n)
ORDER BY m.n
RETURNING position
