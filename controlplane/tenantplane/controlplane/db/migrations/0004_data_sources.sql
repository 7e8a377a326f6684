-- Data sources are entitled as tools and models are.
-- Expand: an older control plane on this schema writes the kinds that it knows.
ALTER TABLE controlplane.plan_entitlement
  DROP CONSTRAINT plan_entitlement_kind_check,
  ADD CONSTRAINT plan_entitlement_kind_check CHECK (kind IN ('tool', 'model', 'data_source'));

ALTER TABLE controlplane.org_entitlement
  DROP CONSTRAINT org_entitlement_kind_check,
  ADD CONSTRAINT org_entitlement_kind_check CHECK (kind IN ('tool', 'model', 'data_source'));
