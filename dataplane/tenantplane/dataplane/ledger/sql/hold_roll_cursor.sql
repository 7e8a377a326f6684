-- Shared, so that no roll moves it between this and the reading of what comes after it.
SELECT rolled_before::text AS rolled_before FROM dataplane.roll_cursor FOR SHARE
