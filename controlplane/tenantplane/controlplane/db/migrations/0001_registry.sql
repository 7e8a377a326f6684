-- What the platform sells and to whom: plans, orgs, what they may use, and how they prove themselves.
CREATE SCHEMA controlplane;

DO $$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA controlplane TO %I, %I',
                 tp.role_name('app'), tp.role_name('system'));
END
$$;

CREATE TABLE controlplane.plan (
  name               text PRIMARY KEY,
  spec               jsonb NOT NULL,
  writer             text NOT NULL,
  generation         bigint NOT NULL,
  version            bigint NOT NULL CHECK (version >= 1),
  -- Rises with the prices alone, so that a usage event names the prices it was made at.
  price_book_version bigint NOT NULL CHECK (price_book_version >= 1),
  updated_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE controlplane.plan_entitlement (
  plan text NOT NULL REFERENCES controlplane.plan ON DELETE CASCADE,
  kind text NOT NULL CHECK (kind IN ('tool', 'model')),
  name text NOT NULL,
  PRIMARY KEY (plan, kind, name)
);

CREATE TABLE controlplane.plane (
  name            text PRIMARY KEY,
  region          text NOT NULL,
  endpoint        text NOT NULL,
  kind            text NOT NULL CHECK (kind = 'shared'),
  public_jwk      jsonb,
  enrolled_at     timestamptz,
  beacon_sequence bigint NOT NULL DEFAULT 0,
  created_at      timestamptz NOT NULL DEFAULT now()
);

-- `path` runs from the root to the org itself. It and `root_org_id` never change; that the parent
-- is there is checked under a lock on the root's row, since a key from org to org could not begin
-- with the same org_id on both sides.
CREATE TABLE controlplane.org (
  org_id      text PRIMARY KEY,
  root_org_id text NOT NULL,
  parent      text,
  path        text[] NOT NULL CHECK (path[1] = root_org_id AND path[cardinality(path)] = org_id
                                     AND cardinality(path) <= 4),
  status      text NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
  spec        jsonb NOT NULL,
  -- NULL where the org is deleted and retained: it does not keep its plan from being deleted.
  plan        text REFERENCES controlplane.plan,
  region      text NOT NULL,
  isolation   text NOT NULL CHECK (isolation = 'shared'),
  writer      text NOT NULL,
  generation  bigint NOT NULL,
  token_epoch bigint NOT NULL DEFAULT 1,
  plane       text REFERENCES controlplane.plane,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  CHECK ((plan IS NULL) = (status = 'deleted'))
);
CREATE INDEX org_by_root ON controlplane.org (root_org_id);
CREATE INDEX org_by_plan ON controlplane.org (plan);
CREATE INDEX org_by_plane ON controlplane.org (plane);

CREATE TABLE controlplane.org_entitlement (
  org_id text NOT NULL REFERENCES controlplane.org ON DELETE CASCADE,
  kind   text NOT NULL CHECK (kind IN ('tool', 'model')),
  name   text NOT NULL,
  effect text NOT NULL CHECK (effect IN ('allow', 'deny')),
  PRIMARY KEY (org_id, kind, name, effect)
);

CREATE TABLE controlplane.issuer (
  org_id   text NOT NULL REFERENCES controlplane.org ON DELETE CASCADE,
  issuer   text NOT NULL,
  audience text NOT NULL,
  rules    jsonb NOT NULL,
  PRIMARY KEY (org_id, issuer, audience)
);
CREATE INDEX issuer_by_name ON controlplane.issuer (issuer);

-- A pair of issuer and audience speaks for one org. Unique across orgs, therefore apart from the
-- tenant tables: a tenant's insert must never tell that another's row exists.
CREATE TABLE controlplane.issuer_holder (
  issuer   text NOT NULL,
  audience text NOT NULL,
  holder   text NOT NULL,
  PRIMARY KEY (issuer, audience)
);

CREATE TABLE controlplane.api_key (
  org_id     text NOT NULL REFERENCES controlplane.org ON DELETE CASCADE,
  key_id     text NOT NULL,
  sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
  name       text NOT NULL,
  user_id    text NOT NULL,
  roles      text[] NOT NULL,
  scopes     text[],
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  PRIMARY KEY (org_id, key_id)
);

-- Names that were purged: never used again, so that old tokens, logs and files mean one org.
CREATE TABLE controlplane.purged_org (
  org_id    text PRIMARY KEY,
  purged_at timestamptz NOT NULL DEFAULT now()
);

SELECT tp.protect('controlplane.org', 'SELECT'),
       tp.protect('controlplane.org_entitlement', 'SELECT'),
       tp.protect('controlplane.issuer', 'SELECT'),
       tp.protect('controlplane.api_key', 'SELECT'),
       tp.protect('controlplane.purged_org', '');

SELECT tp.allow_system('controlplane.org', 'SELECT, INSERT, UPDATE, DELETE'),
       tp.allow_system('controlplane.org_entitlement', 'SELECT, INSERT, DELETE'),
       tp.allow_system('controlplane.issuer', 'SELECT, INSERT, DELETE'),
       tp.allow_system('controlplane.api_key', 'SELECT, INSERT, UPDATE'),
       tp.allow_system('controlplane.purged_org', 'SELECT, INSERT');

SELECT tp.share('controlplane.plan', 'system', 'SELECT, INSERT, UPDATE, DELETE',
                'plans belong to the platform'),
       tp.share('controlplane.plan_entitlement', 'system', 'SELECT, INSERT, DELETE',
                'plans belong to the platform'),
       tp.share('controlplane.plane', 'system', 'SELECT, INSERT, UPDATE',
                'planes belong to the platform'),
       tp.share('controlplane.plane', 'app', 'SELECT',
                'a tenant is told which plane serves it, and where'),
       tp.share('controlplane.issuer_holder', 'system', 'SELECT, INSERT, DELETE',
                'one pair of issuer and audience speaks for one org');
