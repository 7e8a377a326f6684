SELECT epoch, extract(epoch FROM clock_timestamp() - raised_at)::float8 AS age_seconds
  FROM dataplane.ledger_epoch
