SELECT jws FROM dataplane.snapshot WHERE org_id = %(org_id)s
