SELECT pg_snapshot_xmin(pg_current_snapshot()) > %(barrier)s::text::xid8 AS passed
