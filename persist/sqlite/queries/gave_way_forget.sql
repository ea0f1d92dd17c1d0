-- Purpose: forget the messages that gave way long ago.
-- Parameters: ?1 how many to remember.
-- Result: changes the deleted rows.
DELETE FROM oncemq_gave_way WHERE number <= (SELECT max(number) FROM oncemq_gave_way) - ?1
