DELETE FROM dataplane.checkpoint_blob WHERE org_id = %(org_id)s AND thread_id = ANY (%(thread_ids)s)
