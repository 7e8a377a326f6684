-- all orgs: the shipper sends up what the plane committed to.
SELECT r.xid::text AS xid, r.record_id, r.org_id, r.run_id, encode(r.entry, 'hex') AS entry_hex,
       r.occurred_at
  FROM dataplane.audit_record r
 WHERE (r.xid, r.record_id) > (%(xid)s::text::xid8, %(id)s)
   AND r.xid < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY r.xid, r.record_id
 LIMIT %(limit)s
