-- What is on its way up, or was refused for good as of another plane.
SELECT count(*) AS events, coalesce(sum(o.delta_nanousd), 0)::bigint AS nanousd
  FROM dataplane.outcome o
 WHERE o.org_id = %(org_id)s
   AND ((o.xid, o.event_id) > (SELECT c.xid, c.id FROM dataplane.ship_cursor c
                                WHERE c.stream = 'usage')
        OR EXISTS (SELECT FROM dataplane.shipping_refused r
                    WHERE r.org_id = %(org_id)s AND r.stream = 'usage'
                      AND r.row_id = o.event_id))
