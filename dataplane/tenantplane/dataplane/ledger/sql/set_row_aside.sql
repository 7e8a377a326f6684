-- Another shipper may have met the same refusal.
INSERT INTO dataplane.shipping_refused (org_id, stream, row_id, reason)
VALUES (%(org_id)s, %(stream)s, %(id)s, %(reason)s)
ON CONFLICT DO NOTHING
