SELECT event_id FROM dataplane.outcome
 WHERE org_id = %(org_id)s AND event_id = ANY (%(event_ids)s)
UNION ALL
SELECT event_id FROM dataplane.adjustment
 WHERE org_id = %(org_id)s AND event_id = ANY (%(event_ids)s)
