BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE;
RESET ROLE; RESET ALL; CLOSE ALL; DISCARD SEQUENCES; DISCARD TEMP;
SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() WHERE from_sql)
         OR EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) AS spoilt,
       set_config('search_path', 'public, pg_temp', true),
       set_config('application_name', %s, true)
