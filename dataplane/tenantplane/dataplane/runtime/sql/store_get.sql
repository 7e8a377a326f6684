SELECT namespace, key, body, created_at, updated_at FROM dataplane.store_item
 WHERE org_id = %(org_id)s AND namespace = %(namespace)s AND key = %(key)s
   AND (expires_at IS NULL OR expires_at > now())
