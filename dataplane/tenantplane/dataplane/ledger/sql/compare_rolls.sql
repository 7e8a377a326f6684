-- all orgs: a tree's accounts are those of all its orgs.
-- Sums over all outcomes, beside the rolls and what came after them. Accounts of users, keys and
-- runs are dropped when they are over: only those that are there are compared.
WITH step AS (
  SELECT i.slots, o.delta_nanousd, o.xid
    FROM dataplane.outcome o
    JOIN dataplane.intent i ON i.org_id = o.org_id AND i.intent_id = o.intent_id
   WHERE i.root_org_id = %(root)s
  UNION ALL
  SELECT a.slots, a.delta_nanousd, a.xid FROM dataplane.adjustment a WHERE a.root_org_id = %(root)s
), ledger AS (
  SELECT slot.kind, slot.id, slot.period, slot.period_id,
         coalesce(sum(step.delta_nanousd)
                  FILTER (WHERE step.xid < %(rolled_before)s::text::xid8), 0)::bigint AS nanousd
    FROM step
   CROSS JOIN LATERAL jsonb_to_recordset(step.slots) AS slot (
           kind text, id text, period text, period_id text)
   GROUP BY 1, 2, 3, 4
), rolled AS (
  SELECT r.kind, r.id, r.period, r.period_id, sum(r.nanousd)::bigint AS nanousd
    FROM dataplane.spend_roll r
   WHERE r.root_org_id = %(root)s
   GROUP BY 1, 2, 3, 4
)
SELECT concat_ws(' ', kind, id, period_id) AS account,
       coalesce(ledger.nanousd, 0) AS ledger_nanousd, coalesce(rolled.nanousd, 0) AS rolled_nanousd
  FROM ledger
  FULL JOIN rolled USING (kind, id, period, period_id)
 WHERE coalesce(ledger.nanousd, 0) <> coalesce(rolled.nanousd, 0)
   AND (rolled.nanousd IS NOT NULL OR kind NOT IN ('user', 'key', 'run'))
 ORDER BY 1
