SELECT wrapped_key FROM dataplane.org_key WHERE org_id = %(org_id)s
