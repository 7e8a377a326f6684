-- all orgs: a tree's amounts are installed together.
-- One statement, so that settled amounts and open holds are of one snapshot; the cursor of the roll
-- is held meanwhile, so what is rolled and what came after it make the whole. `since` bounds the
-- estimates that can stand in a period which is not over; open calls are read however old.
WITH after_roll AS MATERIALIZED (
  SELECT i.slots, o.delta_nanousd
    FROM dataplane.outcome o
    JOIN dataplane.intent i ON i.org_id = o.org_id AND i.intent_id = o.intent_id
   WHERE o.xid >= %(rolled_before)s::text::xid8 AND i.root_org_id = %(root)s
  UNION ALL
  SELECT a.slots, a.delta_nanousd
    FROM dataplane.adjustment a
   WHERE a.xid >= %(rolled_before)s::text::xid8 AND a.root_org_id = %(root)s
), settled AS (
  SELECT slot.kind, slot.id, slot.period, slot.period_id, slot.period_end_unix,
         after_roll.delta_nanousd AS nanousd
    FROM after_roll
   CROSS JOIN LATERAL jsonb_to_recordset(after_roll.slots) AS slot (
           kind text, id text, period text, period_id text, period_end_unix bigint)
   WHERE slot.period_end_unix > %(ended_before_unix)s
  UNION ALL
  SELECT r.kind, r.id, r.period, r.period_id, r.period_end_unix, r.nanousd
    FROM dataplane.spend_roll r
   WHERE r.root_org_id = %(root)s AND r.period_end_unix > %(ended_before_unix)s
), unfinished AS (
  SELECT i.intent_id, i.stage, i.hold_nanousd AS nanousd, i.deadline_at, i.slots
    FROM dataplane.intent i
   WHERE i.root_org_id = %(root)s AND i.stage IS NULL
  UNION ALL
  SELECT i.intent_id, i.stage, i.cost_nanousd, i.deadline_at, i.slots
    FROM dataplane.intent i
   WHERE i.root_org_id = %(root)s AND i.stage = 'estimated' AND i.intent_id >= %(since)s
)
SELECT kind, id, period, period_id, max(period_end_unix) AS period_end_unix,
       sum(nanousd)::bigint AS nanousd, NULL AS hold_id, NULL::bigint AS deadline_unix,
       NULL::text AS stage, NULL::text AS slots
  FROM settled
 GROUP BY 1, 2, 3, 4
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, nanousd, intent_id::text,
       ceil(extract(epoch FROM deadline_at))::bigint, coalesce(stage, 'open'), slots::text
  FROM unfinished
