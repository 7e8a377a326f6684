DELETE FROM dataplane.store_item
 WHERE org_id = %(org_id)s AND namespace = %(namespace)s AND key = %(key)s
