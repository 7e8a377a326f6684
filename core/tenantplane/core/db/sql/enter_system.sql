BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE;
RESET ROLE; RESET ALL; CLOSE ALL; DISCARD SEQUENCES; DISCARD TEMP;
SELECT set_config('search_path', 'public, pg_temp', true),
       set_config('application_name', %s, true)
