SELECT dataplane.shelve_chunks(%(org_id)s, %(batch)s) AS moved
