-- What planes are told (snapshots), how they prove themselves, and how far each replica has read.

-- One signed document per org and version. It outlives the org as a tombstone: planes must learn
-- of a deletion, however late they ask.
CREATE TABLE controlplane.snapshot (
  org_id         text PRIMARY KEY,
  root_org_id    text NOT NULL,
  plane          text NOT NULL REFERENCES controlplane.plane,
  version        bigint NOT NULL CHECK (version >= 1),
  status         text NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
  content_sha256 bytea NOT NULL,
  jws            text NOT NULL,
  -- The transaction that wrote it: a cursor over these loses no row, a sequence would.
  changed_xid    xid8 NOT NULL
);
CREATE INDEX snapshot_by_change ON controlplane.snapshot (plane, changed_xid);

CREATE TABLE controlplane.plane_replica (
  plane   text NOT NULL REFERENCES controlplane.plane,
  replica text NOT NULL,
  -- All changes of transactions before this one are applied there.
  cursor  xid8 NOT NULL,
  seen_at timestamptz NOT NULL,
  PRIMARY KEY (plane, replica)
);

CREATE TABLE controlplane.enrolment_token (
  sha256     bytea PRIMARY KEY CHECK (octet_length(sha256) = 32),
  plane      text NOT NULL REFERENCES controlplane.plane,
  expires_at timestamptz NOT NULL,
  burnt_at   timestamptz,
  -- Thumbprint of the key it was burnt for: that key may ask again, if the answer was lost.
  burnt_for  text,
  CHECK ((burnt_at IS NULL) = (burnt_for IS NULL))
);

CREATE TABLE controlplane.client_assertion (
  client_id  text NOT NULL,
  jti        text NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (client_id, jti)
);
CREATE INDEX client_assertion_by_expiry ON controlplane.client_assertion (expires_at);

CREATE TABLE controlplane.signing_key (
  kid             text PRIMARY KEY,
  wrapped_private bytea NOT NULL,
  wrapped_key     bytea NOT NULL,
  public_jwk      jsonb NOT NULL,
  status          text NOT NULL CHECK (status IN ('active', 'retired')),
  created_at      timestamptz NOT NULL DEFAULT now()
);
-- Two control planes that start at once on an empty database agree on one key.
CREATE UNIQUE INDEX one_active_signing_key ON controlplane.signing_key (status)
  WHERE status = 'active';

CREATE TABLE controlplane.platform_key (
  sha256     bytea PRIMARY KEY CHECK (octet_length(sha256) = 32),
  name       text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz
);

SELECT tp.protect('controlplane.snapshot', 'SELECT');
SELECT tp.allow_system('controlplane.snapshot', 'SELECT, INSERT, UPDATE');

SELECT tp.share('controlplane.plane_replica', 'system', 'SELECT, INSERT, UPDATE, DELETE',
                'replicas belong to planes, and those to the platform'),
       tp.share('controlplane.plane_replica', 'app', 'SELECT',
                'a tenant is told whether its plane has applied its snapshot'),
       tp.share('controlplane.enrolment_token', 'system', 'SELECT, INSERT, UPDATE, DELETE',
                'planes belong to the platform'),
       tp.share('controlplane.client_assertion', 'system', 'SELECT, INSERT, DELETE',
                'planes belong to the platform'),
       tp.share('controlplane.signing_key', 'system', 'SELECT, INSERT',
                'the platform signs, and its private keys are wrapped'),
       tp.share('controlplane.platform_key', 'system', 'SELECT, INSERT',
                'keys of the platform operator');
