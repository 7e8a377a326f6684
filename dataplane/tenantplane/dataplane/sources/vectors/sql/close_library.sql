DELETE FROM dataplane.library WHERE org_id = %(org_id)s
