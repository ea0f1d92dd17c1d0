-- Purpose: add or replace exchanges.
-- Parameters: $1 key of the client ID, $2 epoch, $3 whether the server began them,
-- $4 packet identifiers, $5 steps, $6 positions, $7 sequences.
-- Result: changes as many rows.
INSERT INTO oncemq.packets (session, received, packet_id, step, position, sequence)
SELECT DISTINCT ON (s.id, p.received, p.packet_id) s.id, p.received, p.packet_id, p.step, p.position, p.sequence
FROM oncemq.sessions s,
  unnest($3::boolean[], $4::int[], $5::smallint[], $6::bigint[], $7::bigint[]) WITH ORDINALITY
    AS p (received, packet_id, step, position, sequence, n)
WHERE s.key = $1::bytea AND s.epoch = $2::bigint
ORDER BY s.id, p.received, p.packet_id, p.n DESC
ON CONFLICT (session, received, packet_id) DO UPDATE
SET step = excluded.step, position = excluded.position, sequence = excluded.sequence
