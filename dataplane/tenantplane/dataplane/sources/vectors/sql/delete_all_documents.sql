DELETE FROM dataplane.document WHERE org_id = %(org_id)s
