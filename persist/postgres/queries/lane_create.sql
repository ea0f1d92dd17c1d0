-- Purpose: create a lane.
-- Parameters: $1 lane, $2 name of its sequence with the schema.
-- Result: changes one row.
INSERT INTO oncemq.lanes (lane, positions, life) SELECT $1::smallint, $2::text::regclass, token FROM oncemq.life
