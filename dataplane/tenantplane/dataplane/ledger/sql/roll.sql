-- all orgs: one roll sums up what all of them settled.
-- Up to the oldest running transaction, below which no row can appear any more, or to the end of
-- the transaction in which the limit is reached. The locked cursor moves with the sums: all or none.
WITH bounds AS (
  SELECT least(
           pg_snapshot_xmin(pg_current_snapshot()),
           (SELECT (o.xid::text::bigint + 1)::text::xid8 FROM dataplane.outcome o
             WHERE o.xid >= %(rolled_before)s::text::xid8
             ORDER BY o.xid OFFSET %(limit)s - 1 LIMIT 1)) AS until
), step AS (
  SELECT o.org_id, i.root_org_id, i.slots, o.delta_nanousd
    FROM bounds, dataplane.outcome o
    JOIN dataplane.intent i ON i.org_id = o.org_id AND i.intent_id = o.intent_id
   WHERE o.xid >= %(rolled_before)s::text::xid8 AND o.xid < bounds.until
  UNION ALL
  SELECT a.org_id, a.root_org_id, a.slots, a.delta_nanousd
    FROM bounds, dataplane.adjustment a
   WHERE a.xid >= %(rolled_before)s::text::xid8 AND a.xid < bounds.until
), spent AS (
  INSERT INTO dataplane.spend_roll AS r
         (org_id, root_org_id, kind, id, period, period_id, period_end_unix, nanousd)
  SELECT step.org_id, step.root_org_id, slot.kind, slot.id, slot.period, slot.period_id,
         max(slot.period_end_unix), sum(step.delta_nanousd)::bigint
    FROM step
   CROSS JOIN LATERAL jsonb_to_recordset(step.slots) AS slot (
           kind text, id text, period text, period_id text, period_end_unix bigint)
   GROUP BY 1, 2, 3, 4, 5, 6
      ON CONFLICT (org_id, kind, id, period, period_id) DO UPDATE
     SET nanousd = r.nanousd + excluded.nanousd,
         period_end_unix = greatest(r.period_end_unix, excluded.period_end_unix)
), counted AS (
  INSERT INTO dataplane.usage_roll AS u (org_id, root_org_id, events, nanousd)
  SELECT step.org_id, step.root_org_id, count(*), sum(step.delta_nanousd)::bigint
    FROM step
   GROUP BY 1, 2
      ON CONFLICT (org_id) DO UPDATE
     SET events = u.events + excluded.events, nanousd = u.nanousd + excluded.nanousd
)
UPDATE dataplane.roll_cursor c
   SET rolled_before = greatest(c.rolled_before, bounds.until), rolled_at = clock_timestamp()
  FROM bounds
RETURNING (SELECT count(*) FROM step) AS rolled
