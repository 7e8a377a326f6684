-- Each call at its last word, on the day (UTC) of its outcome.
SELECT (o.occurred_at AT TIME ZONE 'UTC')::date AS day, i.resource AS model,
       sum(i.cost_nanousd)::bigint AS nanousd
  FROM dataplane.outcome o
  JOIN dataplane.intent i ON i.org_id = o.org_id AND i.intent_id = o.intent_id
 WHERE o.org_id = %(org_id)s AND i.kind = 'model' AND o.stage = i.stage
   AND o.occurred_at >= %(first_day)s::date::timestamp AT TIME ZONE 'UTC'
   AND o.occurred_at < (%(last_day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
 GROUP BY 1, 2
 ORDER BY 1, 2
