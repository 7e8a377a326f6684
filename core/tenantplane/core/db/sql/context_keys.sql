SELECT key_id, installed_at, valid_until,
       valid_until IS NULL OR valid_until > now() AS valid,
       extract(epoch FROM valid_until - now())::float8 AS seconds_left
  FROM tp.context_key
 ORDER BY installed_at, key_id
