-- What each plane last found when it checked its own live database; the condition IsolationVerified.

CREATE TABLE controlplane.plane_isolation (
  plane            text PRIMARY KEY REFERENCES controlplane.plane,
  reported_at      timestamptz NOT NULL,
  interval_seconds double precision NOT NULL CHECK (interval_seconds > 0),
  refusals         integer NOT NULL CHECK (refusals >= 0),
  warnings         integer NOT NULL CHECK (warnings >= 0),
  -- Names of roles, tables, policies and functions, refusals first; never a tenant's.
  findings         jsonb NOT NULL
);

SELECT tp.share('controlplane.plane_isolation', 'system', 'SELECT, INSERT, UPDATE',
                'planes belong to the platform'),
       tp.share('controlplane.plane_isolation', 'app', 'SELECT',
                'a tenant is told whether its plane''s database was verified');
