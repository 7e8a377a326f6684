SELECT dataplane.open_shelf(%(org_id)s) AS shelf
