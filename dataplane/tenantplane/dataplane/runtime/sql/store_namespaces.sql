SELECT DISTINCT namespace FROM dataplane.store_item
 WHERE org_id = %(org_id)s AND (expires_at IS NULL OR expires_at > now())
