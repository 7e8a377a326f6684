-- Sums over usage events, kept with each batch: what each level has spent, and how much each plane
-- reported. And who was warned that a cap comes near.

-- Spend of an org and all orgs below it, per day and month of its own time zone.
CREATE TABLE controlplane.level_spend (
  org_id    text NOT NULL,
  period    text NOT NULL CHECK (period IN ('day', 'month')),
  period_id text NOT NULL,
  events    bigint NOT NULL,
  nanousd   bigint NOT NULL,
  PRIMARY KEY (org_id, period, period_id)
);

-- What each plane has reported of an org. A plane that knows less of it was restored from a backup.
CREATE TABLE controlplane.plane_usage (
  org_id      text NOT NULL,
  plane       text NOT NULL REFERENCES controlplane.plane,
  root_org_id text NOT NULL,
  events      bigint NOT NULL,
  nanousd     bigint NOT NULL,
  PRIMARY KEY (org_id, plane)
);
CREATE INDEX plane_usage_by_plane ON controlplane.plane_usage (plane);
CREATE INDEX plane_usage_by_root ON controlplane.plane_usage (root_org_id);

CREATE TABLE controlplane.spend_alert (
  org_id            text NOT NULL,
  period            text NOT NULL CHECK (period IN ('day', 'month')),
  period_id         text NOT NULL,
  threshold_percent integer NOT NULL CHECK (threshold_percent IN (50, 80, 100)),
  cap_kind          text NOT NULL CHECK (cap_kind IN ('soft', 'hard')),
  cap_nanousd       bigint NOT NULL,
  spent_nanousd     bigint NOT NULL,
  raised_at         timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, period, period_id, threshold_percent)
);

SELECT tp.protect('controlplane.level_spend', 'SELECT'),
       tp.protect('controlplane.plane_usage', ''),
       tp.protect('controlplane.spend_alert', 'SELECT');
SELECT tp.allow_system('controlplane.level_spend', 'SELECT, INSERT, UPDATE'),
       tp.allow_system('controlplane.plane_usage', 'SELECT, INSERT, UPDATE'),
       tp.allow_system('controlplane.spend_alert', 'SELECT, INSERT');

-- What was reported before there were sums. Of a purged org its root is known, and no more.
INSERT INTO controlplane.level_spend (org_id, period, period_id, events, nanousd)
SELECT level.org_id, p.period,
       to_char(e.occurred_at AT TIME ZONE coalesce(a.spec ->> 'timeZone', 'UTC'), p.form),
       count(*), sum(e.delta_nanousd)::bigint
  FROM controlplane.usage_event e
  LEFT JOIN controlplane.org o ON o.org_id = e.org_id
 CROSS JOIN LATERAL (
         SELECT DISTINCT unnest(coalesce(o.path, ARRAY[e.root_org_id, e.org_id])) AS org_id) level
  LEFT JOIN controlplane.org a ON a.org_id = level.org_id
 CROSS JOIN (VALUES ('day', 'YYYY-MM-DD'), ('month', 'YYYY-MM')) AS p (period, form)
 GROUP BY 1, 2, 3;
INSERT INTO controlplane.plane_usage (org_id, plane, root_org_id, events, nanousd)
SELECT org_id, plane, min(root_org_id), count(*), sum(delta_nanousd)::bigint
  FROM controlplane.usage_event
 GROUP BY org_id, plane;
