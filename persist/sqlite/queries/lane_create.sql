-- Purpose: create a lane.
-- Parameters: ?1 lane, ?2 position of its first message.
-- Result: none.
INSERT INTO oncemq_lanes (lane, next) VALUES (?1, ?2)
