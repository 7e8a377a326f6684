-- all orgs: how many usage events this plane knows of each, and their sum.
SELECT org_id, sum(events)::bigint AS events, sum(nanousd)::bigint AS nanousd
  FROM (SELECT u.org_id, u.events, u.nanousd FROM dataplane.usage_roll u
        UNION ALL
        SELECT o.org_id, 1, o.delta_nanousd FROM dataplane.outcome o
         WHERE o.xid >= %(rolled_before)s::text::xid8
        UNION ALL
        SELECT a.org_id, 1, a.delta_nanousd FROM dataplane.adjustment a
         WHERE a.xid >= %(rolled_before)s::text::xid8) AS known
 GROUP BY org_id
