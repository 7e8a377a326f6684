-- all orgs: one setting of the plane bounds the life of every org's kept answers.
-- The conditions stand twice: a key that is claimed meanwhile is looked at again before it goes.
WITH gone AS (
  DELETE FROM dataplane.request r
   USING (SELECT org_id, principal, route, idempotency_key FROM dataplane.request
           WHERE expires_at < clock_timestamp()
             AND (status <> 'in_flight' OR lease_until < clock_timestamp())
           ORDER BY expires_at LIMIT %(most)s) old
   WHERE r.org_id = old.org_id AND r.principal = old.principal AND r.route = old.route
     AND r.idempotency_key = old.idempotency_key
     AND r.expires_at < clock_timestamp()
     AND (r.status <> 'in_flight' OR r.lease_until < clock_timestamp())
  RETURNING 1
)
SELECT count(*) AS gone FROM gone
