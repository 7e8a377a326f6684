INSERT INTO dataplane.adjustment
       (org_id, event_id, root_org_id, intent_id, slots, delta_nanousd, reason, occurred_at)
VALUES (%(org_id)s, %(event_id)s, %(root)s, %(intent_id)s, %(slots)s::text::jsonb,
        %(delta_nanousd)s, %(reason)s, %(occurred_at)s)
ON CONFLICT DO NOTHING
