-- Only forward: another shipper may have been faster.
UPDATE dataplane.ship_cursor
   SET xid = %(xid)s::text::xid8, id = %(id)s, shipped_at = clock_timestamp()
 WHERE stream = %(stream)s AND (xid, id) < (%(xid)s::text::xid8, %(id)s)
