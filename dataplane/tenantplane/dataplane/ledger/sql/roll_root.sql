-- all orgs: a tree's rolls are made anew together.
-- From all outcomes that the cursor, which is locked, has passed.
WITH step AS (
  SELECT o.org_id, i.root_org_id, i.slots, o.delta_nanousd
    FROM dataplane.outcome o
    JOIN dataplane.intent i ON i.org_id = o.org_id AND i.intent_id = o.intent_id
   WHERE i.root_org_id = %(root)s AND o.xid < %(rolled_before)s::text::xid8
  UNION ALL
  SELECT a.org_id, a.root_org_id, a.slots, a.delta_nanousd
    FROM dataplane.adjustment a
   WHERE a.root_org_id = %(root)s AND a.xid < %(rolled_before)s::text::xid8
)
INSERT INTO dataplane.spend_roll
       (org_id, root_org_id, kind, id, period, period_id, period_end_unix, nanousd)
SELECT step.org_id, step.root_org_id, slot.kind, slot.id, slot.period, slot.period_id,
       max(slot.period_end_unix), sum(step.delta_nanousd)::bigint
  FROM step
 CROSS JOIN LATERAL jsonb_to_recordset(step.slots) AS slot (
         kind text, id text, period text, period_id text, period_end_unix bigint)
 GROUP BY 1, 2, 3, 4, 5, 6
