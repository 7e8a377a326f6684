SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() WHERE from_sql)
         OR EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) AS spoilt
