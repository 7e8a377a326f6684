SELECT xid::text, id FROM dataplane.ship_cursor WHERE stream = %(stream)s
