-- What a plane knows from its control plane, kept so that a restart with the control plane away serves.

-- One row: who this plane is. Its replicas share it, so they share one key and one enrolment.
CREATE TABLE dataplane.plane_state (
  only_row           boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  plane              text NOT NULL,
  -- Private key of the plane, wrapped by the key provider; the plane makes it, nobody else sees it.
  wrapped_key        bytea NOT NULL,
  region             text,
  issuer             text,
  jwks               jsonb,
  enrolled_at        timestamptz,
  beacon_jws         text,
  beacon_sequence    bigint,
  -- On this database's clock: an issuer whose clock runs ahead must not lengthen the offline time.
  beacon_received_at timestamptz,
  CHECK ((beacon_jws IS NULL) = (beacon_sequence IS NULL)),
  CHECK ((beacon_jws IS NULL) = (beacon_received_at IS NULL)),
  CHECK ((enrolled_at IS NULL) = (issuer IS NULL))
);
SELECT tp.share('dataplane.plane_state', 'system', 'SELECT, INSERT, UPDATE',
                'identity of the plane itself and the last word of its control plane');

-- The signed snapshot of each org, tombstones too: forgetting one would let an old one back in.
CREATE TABLE dataplane.snapshot (
  org_id    text PRIMARY KEY,
  version   bigint NOT NULL CHECK (version >= 1),
  jws       text NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now()
);
-- The gate answers from its in-process copy: no tenant's transaction reads this table.
SELECT tp.protect('dataplane.snapshot', '');
SELECT tp.allow_system('dataplane.snapshot', 'SELECT, INSERT, UPDATE');
