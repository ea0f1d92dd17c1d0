-- Purpose: make a new token, if the server has lost the one that was there.
-- Parameters: none.
-- Result: changes one row, as a rule none.
INSERT INTO oncemq.life (token) VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING
