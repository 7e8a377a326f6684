-- all orgs: a replica knows whose calls a provider's excess has stopped.
SELECT org_id, max(occurred_at) AS occurred_at
  FROM dataplane.outcome
 WHERE provider_excess AND (%(org_id)s::text IS NULL OR org_id = %(org_id)s)
 GROUP BY org_id
