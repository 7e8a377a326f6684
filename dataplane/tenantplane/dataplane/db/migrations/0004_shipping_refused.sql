-- Rows that the control plane refuses for good, whoever sends them however often. They stand in
-- their own tables still: here is why they were not shipped, so that nothing is lost silently.
CREATE TABLE dataplane.shipping_refused (
  org_id     text NOT NULL,
  stream     text NOT NULL CHECK (stream IN ('usage', 'audit')),
  row_id     uuid NOT NULL,  -- event_id of the outcome, or record_id of the audit record
  reason     text NOT NULL,  -- the control plane's error code
  refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org_id, stream, row_id)
);
-- For operators: no tenant's transaction reads this table.
SELECT tp.protect('dataplane.shipping_refused', '');
SELECT tp.allow_system('dataplane.shipping_refused', 'SELECT, INSERT');
