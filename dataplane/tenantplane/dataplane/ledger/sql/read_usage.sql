-- all orgs: the shipper sends up what the plane used.
-- Below the oldest running transaction, no row can appear any more.
SELECT o.xid::text AS xid, o.event_id, o.org_id, i.root_org_id, i.user_id, i.key_id, i.run_id,
       i.call_no, i.thread_id, o.intent_id, o.stage, i.kind, i.resource, o.input_tokens,
       o.output_tokens, o.cost_nanousd, o.delta_nanousd, i.price_book_version, o.provider_excess,
       o.occurred_at
  FROM dataplane.outcome o
  JOIN dataplane.intent i ON i.org_id = o.org_id AND i.intent_id = o.intent_id
 WHERE (o.xid, o.event_id) > (%(xid)s::text::xid8, %(id)s)
   AND o.xid < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY o.xid, o.event_id
 LIMIT %(limit)s
