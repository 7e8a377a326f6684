-- What there is to entitle to, what is kept for roles, and more room under caps for a time.

-- A version never changes: a changed entry is a version of its own, and the highest that is not
-- withdrawn is in force. Numbers are not used again.
CREATE TABLE controlplane.catalogue (
  kind         text NOT NULL CHECK (kind IN ('tool', 'model', 'prompt', 'data_source')),
  name         text NOT NULL,
  version      bigint NOT NULL CHECK (version >= 1),
  description  text NOT NULL,
  -- The text of a prompt; nothing else has one.
  prompt       text CHECK (octet_length(prompt) BETWEEN 1 AND 65536),
  created_by   text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  withdrawn_by text,
  withdrawn_at timestamptz,
  PRIMARY KEY (kind, name, version),
  CHECK ((kind = 'prompt') = (prompt IS NOT NULL)),
  CHECK ((withdrawn_by IS NULL) = (withdrawn_at IS NULL))
);

-- One row, which is only locked: shared by those who change what orgs may use, alone by those who
-- change the catalogue.
CREATE TABLE controlplane.catalogue_turn (only_row boolean PRIMARY KEY CHECK (only_row));
INSERT INTO controlplane.catalogue_turn VALUES (true);

-- Expand: an older control plane on this schema writes the kinds that it knows.
ALTER TABLE controlplane.plan_entitlement
  DROP CONSTRAINT plan_entitlement_kind_check,
  ADD CONSTRAINT plan_entitlement_kind_check
    CHECK (kind IN ('tool', 'model', 'prompt', 'data_source'));
ALTER TABLE controlplane.org_entitlement
  DROP CONSTRAINT org_entitlement_kind_check,
  ADD CONSTRAINT org_entitlement_kind_check
    CHECK (kind IN ('tool', 'model', 'prompt', 'data_source'));

-- Tables of their own, and no column of the lists above: an older control plane would read what is
-- kept for a role as allowed to all.
CREATE TABLE controlplane.plan_role_bound (
  plan text NOT NULL REFERENCES controlplane.plan ON DELETE CASCADE,
  kind text NOT NULL CHECK (kind IN ('tool', 'model', 'prompt', 'data_source')),
  name text NOT NULL,
  role text NOT NULL,
  PRIMARY KEY (plan, kind, name, role)
);
CREATE TABLE controlplane.org_role_bound (
  org_id text NOT NULL REFERENCES controlplane.org ON DELETE CASCADE,
  kind   text NOT NULL CHECK (kind IN ('tool', 'model', 'prompt', 'data_source')),
  name   text NOT NULL,
  role   text NOT NULL,
  PRIMARY KEY (org_id, kind, name, role)
);

CREATE TABLE controlplane.cap_raise (
  org_id        text NOT NULL REFERENCES controlplane.org ON DELETE CASCADE,
  raise_id      uuid NOT NULL,
  period        text NOT NULL CHECK (period IN ('day', 'month')),
  extra_nanousd bigint NOT NULL CHECK (extra_nanousd > 0),
  begins_at     timestamptz NOT NULL,
  ends_at       timestamptz NOT NULL,
  created_by    text NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  -- Ended before its time, and by whom.
  ended_by      text,
  ended_at      timestamptz,
  PRIMARY KEY (org_id, raise_id),
  CHECK (ends_at > begins_at),
  CHECK ((ended_by IS NULL) = (ended_at IS NULL))
);

-- An excess of a provider over what was held, before this time, stops nothing any more.
ALTER TABLE controlplane.org ADD COLUMN excess_acknowledged_until timestamptz;

-- What operators did to an org, and what it was before and after. No key to org: it outlives a
-- purge. Never a secret, never a person's name.
CREATE TABLE controlplane.admin_event (
  org_id      text NOT NULL,
  event_id    uuid NOT NULL,
  actor       text NOT NULL,
  action      text NOT NULL,
  before      jsonb,
  after       jsonb,
  occurred_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, event_id)
);

SELECT tp.protect('controlplane.org_role_bound', 'SELECT'),
       tp.protect('controlplane.cap_raise', 'SELECT'),
       tp.protect('controlplane.admin_event', '');

SELECT tp.allow_system('controlplane.org_role_bound', 'SELECT, INSERT, DELETE'),
       tp.allow_system('controlplane.cap_raise', 'SELECT, INSERT, UPDATE'),
       tp.allow_system('controlplane.admin_event', 'INSERT');

SELECT tp.share('controlplane.catalogue', 'system', 'SELECT, INSERT, UPDATE',
                'what there is to sell belongs to the platform'),
       -- UPDATE, since a row lock needs it.
       tp.share('controlplane.catalogue_turn', 'system', 'SELECT, UPDATE',
                'has nothing in it; it is only locked'),
       tp.share('controlplane.plan_role_bound', 'system', 'SELECT, INSERT, DELETE',
                'plans belong to the platform');
