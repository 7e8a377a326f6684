-- Never the last one: every tenant's transaction would be refused. Rows are locked in one order, so
-- that two who retire the last two keys do not both find the other's valid.
WITH known AS MATERIALIZED (
  SELECT key_id, valid_until FROM tp.context_key ORDER BY key_id FOR UPDATE
)
UPDATE tp.context_key k
   SET valid_until = least(coalesce(k.valid_until, 'infinity'), now() + %(after)s)
 WHERE k.key_id = %(key_id)s
   AND EXISTS (SELECT FROM known o WHERE o.key_id <> k.key_id AND o.valid_until IS NULL)
RETURNING k.key_id
