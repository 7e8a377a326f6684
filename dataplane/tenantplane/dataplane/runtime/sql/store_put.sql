INSERT INTO dataplane.store_item (org_id, namespace, key, body, updated_at, ttl_seconds,
                                  expires_at)
VALUES (%(org_id)s, %(namespace)s, %(key)s, %(body)s, clock_timestamp(), %(ttl_seconds)s::float8,
        now() + make_interval(secs => %(ttl_seconds)s::float8))
ON CONFLICT (org_id, namespace, key) DO UPDATE
   SET body = EXCLUDED.body, updated_at = clock_timestamp(), ttl_seconds = EXCLUDED.ttl_seconds,
       expires_at = EXCLUDED.expires_at,
       created_at = CASE WHEN store_item.expires_at <= now() THEN EXCLUDED.created_at
                         ELSE store_item.created_at END
