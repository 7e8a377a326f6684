-- The first one counts: content may be encrypted under it already.
INSERT INTO dataplane.org_key (org_id, wrapped_key) VALUES (%(org_id)s, %(wrapped_key)s)
ON CONFLICT DO NOTHING
