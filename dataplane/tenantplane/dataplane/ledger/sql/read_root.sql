-- all orgs: a tree's amounts are installed together.
-- One statement, so that settled amounts and open holds are of one snapshot. `since` bounds the
-- intents that can stand in a period which is not over; unfinished ones are read however old.
WITH calls AS MATERIALIZED (
  SELECT i.org_id, i.intent_id, i.stage, i.hold_nanousd, i.cost_nanousd, i.deadline_at, i.slots
    FROM dataplane.intent i
   WHERE i.root_org_id = %(root)s
     AND (i.intent_id >= %(since)s OR i.stage IS NULL OR i.stage = 'estimated')
)
SELECT slot.kind, slot.id, slot.period, slot.period_id, slot.period_end_unix,
       sum(o.delta_nanousd)::bigint AS nanousd,
       NULL AS hold_id, NULL::bigint AS deadline_unix, NULL::text AS stage, NULL::text AS slots
  FROM calls
  JOIN dataplane.outcome o USING (org_id, intent_id)
 CROSS JOIN LATERAL jsonb_to_recordset(calls.slots) AS slot (
         kind text, id text, period text, period_id text, period_end_unix bigint)
 WHERE slot.period_end_unix > %(ended_before_unix)s
 GROUP BY 1, 2, 3, 4, 5
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL,
       CASE WHEN calls.stage IS NULL THEN calls.hold_nanousd ELSE calls.cost_nanousd END,
       calls.intent_id::text, ceil(extract(epoch FROM calls.deadline_at))::bigint,
       coalesce(calls.stage, 'open'), calls.slots::text
  FROM calls
 WHERE calls.stage IS NULL OR calls.stage = 'estimated'
