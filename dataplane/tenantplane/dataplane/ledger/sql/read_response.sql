SELECT response FROM dataplane.request
 WHERE org_id = %(org_id)s AND principal = %(principal)s AND route = %(route)s
   AND idempotency_key = %(key)s AND run_id = %(run_id)s AND response IS NOT NULL
