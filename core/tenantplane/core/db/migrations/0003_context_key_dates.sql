-- The start-up check says which context keys are valid and how long; never what they are.
DO $$
BEGIN
  EXECUTE format('GRANT SELECT (key_id, installed_at, valid_until) ON tp.context_key TO %I',
                 tp.role_name('system'));
END
$$;
