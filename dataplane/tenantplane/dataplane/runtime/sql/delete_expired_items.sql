-- all orgs: each org's items have their own times, and one look finds all that are due.
WITH gone AS (
  DELETE FROM dataplane.store_item i
   USING (SELECT org_id, namespace, key FROM dataplane.store_item
           WHERE expires_at < now() ORDER BY expires_at LIMIT %(most)s) old
   WHERE i.org_id = old.org_id AND i.namespace = old.namespace AND i.key = old.key
     AND i.expires_at < now()
  RETURNING 1
)
SELECT count(*) AS gone FROM gone
