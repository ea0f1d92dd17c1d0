-- Purpose: describe all lanes. A lease from before a crash of the server has ended
-- here as well: relays ask only for lanes that they see free.
-- Parameters: none.
-- Result: lane, owner, epoch, what is left of the lease (NULL if it has ended),
-- pending, delivered, dropped, superseded, bytes; in the order of the lanes.
SELECT l.lane, l.owner, l.epoch, CASE WHEN l.holder <> 0 AND l.life = (SELECT token FROM oncemq.life)
  THEN l.lease_until - oncemq.now_ms() END, l.pending + coalesce(a.pending, 0),
  l.delivered + coalesce(a.delivered, 0), l.dropped + coalesce(a.dropped, 0),
  l.superseded + coalesce(a.superseded, 0), l.bytes + coalesce(a.bytes, 0)
FROM oncemq.lanes l
LEFT JOIN (
  SELECT lane, sum(pending)::bigint AS pending, sum(delivered)::bigint AS delivered, sum(dropped)::bigint AS dropped,
    sum(superseded)::bigint AS superseded, sum(bytes)::bigint AS bytes
  FROM oncemq.arrivals GROUP BY lane
) a ON a.lane = l.lane
ORDER BY l.lane
