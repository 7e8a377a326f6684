-- Upkeep of the ledger: sums that spare an install the reading of a month, what a restored plane
-- gets back from its control plane, and who must be told of a provider's excess.

-- All outcomes and adjustments of transactions before this one are in `spend_roll` and `usage_roll`.
CREATE TABLE dataplane.roll_cursor (
  only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  rolled_before xid8 NOT NULL DEFAULT '0',
  rolled_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO dataplane.roll_cursor DEFAULT VALUES;
SELECT tp.share('dataplane.roll_cursor', 'system', 'SELECT, UPDATE',
                'position of the roll, which sums up all orgs in order of their transactions');

-- What the calls of an org settled in each account that they stood on: accounts of the org's
-- ancestors too, so that the sum over a tree's orgs is what an account of the tree has settled.
CREATE TABLE dataplane.spend_roll (
  org_id          text NOT NULL,
  root_org_id     text NOT NULL,
  kind            text NOT NULL,
  id              text NOT NULL,
  period          text NOT NULL,
  period_id       text NOT NULL,
  period_end_unix bigint NOT NULL,  -- the latest, where the time zone changed in a period
  nanousd         bigint NOT NULL,
  PRIMARY KEY (org_id, kind, id, period, period_id)
);
CREATE INDEX spend_roll_of_root ON dataplane.spend_roll (root_org_id, period_end_unix);
-- The accounts of users, keys and runs are dropped when they are over.
CREATE INDEX spend_roll_ended ON dataplane.spend_roll (period_end_unix)
 WHERE kind IN ('user', 'key', 'run');

-- How many events of an org this plane knows, and their sum: what the control plane knows must
-- never be more.
CREATE TABLE dataplane.usage_roll (
  org_id      text PRIMARY KEY,
  root_org_id text NOT NULL,
  events      bigint NOT NULL,
  nanousd     bigint NOT NULL
);

-- Money of calls that the control plane knows and this database lost, as of a restored backup.
CREATE TABLE dataplane.adjustment (
  org_id        text NOT NULL,
  event_id      uuid NOT NULL,
  root_org_id   text NOT NULL,
  intent_id     uuid NOT NULL,
  slots         jsonb NOT NULL,
  delta_nanousd bigint NOT NULL,
  reason        text NOT NULL,
  occurred_at   timestamptz NOT NULL,
  made_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  xid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (org_id, event_id)
);
CREATE INDEX adjustment_to_roll ON dataplane.adjustment (xid);

-- Upkeep is the plane's own: no tenant's transaction reads these.
SELECT tp.protect('dataplane.spend_roll', ''),
       tp.protect('dataplane.usage_roll', ''),
       tp.protect('dataplane.adjustment', '');
SELECT tp.allow_system('dataplane.spend_roll', 'SELECT, INSERT, UPDATE, DELETE'),
       tp.allow_system('dataplane.usage_roll', 'SELECT, INSERT, UPDATE'),
       tp.allow_system('dataplane.adjustment', 'SELECT, INSERT');

-- Estimates can be corrected for ever; an install needs those whose periods may not be over.
CREATE INDEX intent_estimated_recent ON dataplane.intent (root_org_id, intent_id)
 WHERE stage = 'estimated';
DROP INDEX dataplane.intent_estimated;
-- Of all roots, few at any time.
CREATE INDEX intent_open_of_root ON dataplane.intent (root_org_id) WHERE stage IS NULL;

-- The newest excess of each org, read at each start.
CREATE INDEX outcome_in_excess ON dataplane.outcome (org_id, occurred_at) WHERE provider_excess;

-- Told at the commit, so every replica knows of an excess when its outcome stands.
CREATE FUNCTION dataplane.tell_of_excess() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_notify('dataplane_excess', NEW.org_id);
  RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION dataplane.tell_of_excess() FROM PUBLIC;
CREATE TRIGGER tell_of_excess AFTER INSERT ON dataplane.outcome
  FOR EACH ROW WHEN (NEW.provider_excess) EXECUTE FUNCTION dataplane.tell_of_excess();
