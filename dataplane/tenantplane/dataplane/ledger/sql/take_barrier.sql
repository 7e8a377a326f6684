-- An id of our own, taken after the raise has committed: whoever has an older one is waited for.
-- (pg_snapshot_xmax will not do: it is one past the last *completed* id, so that it leaves out a
-- running transaction whose id is newer than that.)
SELECT pg_current_xact_id()::text AS barrier
