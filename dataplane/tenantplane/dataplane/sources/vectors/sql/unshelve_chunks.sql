SELECT dataplane.unshelve_chunks(%(org_id)s, %(batch)s) AS moved
