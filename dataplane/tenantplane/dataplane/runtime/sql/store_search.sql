-- A page of the items under a namespace, latest change first. `below` and `beyond` bound the names
-- of its sub-namespaces: whatever continues it after a period.
SELECT namespace, key, body, created_at, updated_at FROM dataplane.store_item
 WHERE org_id = %(org_id)s
   AND (%(namespace)s::text IS NULL OR namespace = %(namespace)s
        OR (namespace >= %(below)s AND namespace < %(beyond)s))
   AND (expires_at IS NULL OR expires_at > now())
   AND (%(after_time)s::timestamptz IS NULL
        OR (updated_at, namespace, key)
           < (%(after_time)s::timestamptz, %(after_namespace)s, %(after_key)s))
 ORDER BY updated_at DESC, namespace DESC, key DESC LIMIT %(limit)s
