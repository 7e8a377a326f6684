-- An item that was read lives on for as long as it was given at first.
UPDATE dataplane.store_item i
   SET expires_at = now() + make_interval(secs => i.ttl_seconds)
  FROM unnest(%(namespaces)s::text[], %(keys)s::text[]) AS r (namespace, key)
 WHERE i.org_id = %(org_id)s AND i.namespace = r.namespace AND i.key = r.key
   AND i.ttl_seconds IS NOT NULL
