-- Purpose: tell what became of messages, in one snapshot, so that one which
-- becomes a dead letter meanwhile is seen on one side or the other.
-- Parameters: $1 positions.
-- Result: position, state, reason_code, reason; of a message that is gone, nothing.
SELECT o.position, o.state, 0::smallint, o.last_error
FROM unnest($1::bigint[]) AS p (position) JOIN oncemq.outbox o USING (position)
UNION ALL
SELECT d.position, d.state, d.reason_code, d.reason
FROM unnest($1::bigint[]) AS p (position) JOIN oncemq.dead_letters d ON d.position = p.position AND d.position IS NOT NULL
UNION ALL
SELECT g.position, g.state, 0::smallint, NULL
FROM unnest($1::bigint[]) AS p (position) JOIN oncemq.gave_way g USING (position)
