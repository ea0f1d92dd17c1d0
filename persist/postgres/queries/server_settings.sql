-- Purpose: what must be known of a server before it is used.
-- Parameters: none.
-- Result: one row: process number of the server's end of the connection, whether
-- it is a standby, its version, fsync, full_page_writes, synchronous_commit,
-- synchronous_standby_names, default_transaction_read_only,
-- default_transaction_isolation.
SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('server_version_num')::int,
  current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
  current_setting('synchronous_standby_names'), current_setting('default_transaction_read_only'),
  current_setting('default_transaction_isolation')
