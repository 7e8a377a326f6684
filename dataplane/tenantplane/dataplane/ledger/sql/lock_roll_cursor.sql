SELECT rolled_before::text AS rolled_before FROM dataplane.roll_cursor FOR UPDATE
