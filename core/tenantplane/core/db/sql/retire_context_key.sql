UPDATE tp.context_key
   SET valid_until = least(coalesce(valid_until, 'infinity'), now() + %(after)s)
 WHERE key_id = %(key_id)s
RETURNING key_id
