-- Everything for this transaction alone, the role last: it cannot call set_config any more.
-- Text and numbers then read the same whatever an earlier user left in the session.
SELECT set_config('transaction_read_only', 'on', true),
       set_config('statement_timeout', %(timeout_ms)s, true),
       set_config('lock_timeout', '1000', true),
       set_config('work_mem', '8MB', true),
       set_config('hash_mem_multiplier', '1', true),
       set_config('max_parallel_workers_per_gather', '0', true),
       set_config('jit', 'off', true),
       set_config('cursor_tuple_fraction', '1', true),  -- the plan that EXPLAIN judged
       set_config('search_path', 'pg_catalog, pg_temp', true),
       set_config('row_security', 'on', true),
       set_config('standard_conforming_strings', 'on', true),
       set_config('timezone', 'UTC', true),
       set_config('datestyle', 'ISO, YMD', true),
       set_config('intervalstyle', 'postgres', true),
       set_config('bytea_output', 'hex', true),
       set_config('extra_float_digits', '1', true),
       set_config('role', regexp_replace(current_user::text, 'app$', 'query'), true)
