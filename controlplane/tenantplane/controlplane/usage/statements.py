"""SQL of usage events."""

from __future__ import annotations

from typing import Final, LiteralString

INSERT_EVENTS: Final[LiteralString] = """
INSERT INTO controlplane.usage_event
       (org_id, event_id, root_org_id, plane, user_id, key_id, run_id, call_no, thread_id,
        intent_id, stage, kind, resource, input_tokens, output_tokens, cost_nanousd, delta_nanousd,
        price_book_version, provider_excess, occurred_at, content_sha256)
SELECT row.org_id, row.event_id, row.root_org_id, %(plane)s,
       -- What arrives after a purge is money, of nobody.
       CASE WHEN gone.org_id IS NULL THEN row.user_id END,
       CASE WHEN gone.org_id IS NULL THEN row.key_id END,
       row.run_id, row.call_no,
       CASE WHEN gone.org_id IS NULL THEN row.thread_id END,
       row.intent_id, row.stage, row.kind, row.resource, row.input_tokens, row.output_tokens,
       row.cost_nanousd, row.delta_nanousd, row.price_book_version, row.provider_excess,
       row.occurred_at, row.content_sha256
  FROM unnest(%(org_id)s::text[], %(event_id)s::uuid[], %(root_org_id)s::text[],
              %(user_id)s::text[], %(key_id)s::text[], %(run_id)s::uuid[], %(call_no)s::bigint[],
              %(thread_id)s::text[], %(intent_id)s::uuid[], %(stage)s::text[], %(kind)s::text[],
              %(resource)s::text[], %(input_tokens)s::bigint[], %(output_tokens)s::bigint[],
              %(cost_nanousd)s::bigint[], %(delta_nanousd)s::bigint[],
              %(price_book_version)s::bigint[], %(provider_excess)s::boolean[],
              %(occurred_at)s::timestamptz[], %(content_sha256)s::bytea[])
       AS row (org_id, event_id, root_org_id, user_id, key_id, run_id, call_no, thread_id,
               intent_id, stage, kind, resource, input_tokens, output_tokens, cost_nanousd,
               delta_nanousd, price_book_version, provider_excess, occurred_at, content_sha256)
  LEFT JOIN controlplane.purged_org gone ON gone.org_id = row.org_id
 ORDER BY row.org_id, row.event_id
ON CONFLICT (org_id, event_id) DO NOTHING
"""
OTHER_CONTENT: Final[LiteralString] = """
SELECT e.org_id, e.event_id
  FROM unnest(%(org_id)s::text[], %(event_id)s::uuid[], %(content_sha256)s::bytea[])
       AS row (org_id, event_id, content_sha256)
  JOIN controlplane.usage_event e ON e.org_id = row.org_id AND e.event_id = row.event_id
 WHERE e.content_sha256 <> row.content_sha256
 LIMIT 1
"""
# A call's tokens are told at each of its stages, its money as differences: money is summed over
# all events, tokens over the last stage of each call.
BY_MONTH: Final[LiteralString] = """
WITH event AS (
  SELECT to_char(occurred_at AT TIME ZONE %(time_zone)s, 'YYYY-MM') AS month, kind, resource,
         delta_nanousd, input_tokens, output_tokens,
         row_number() OVER (PARTITION BY intent_id
                            ORDER BY stage = 'actual' DESC, occurred_at DESC, event_id) = 1 AS last
    FROM controlplane.usage_event
   WHERE org_id = %(org_id)s
)
SELECT month, kind, resource,
       count(*) FILTER (WHERE last) AS calls,
       coalesce(sum(input_tokens) FILTER (WHERE last), 0)::bigint AS input_tokens,
       coalesce(sum(output_tokens) FILTER (WHERE last), 0)::bigint AS output_tokens,
       sum(delta_nanousd)::bigint AS cost_nanousd
  FROM event
 GROUP BY month, kind, resource
 ORDER BY month, kind, resource
"""
ERASE_PERSONS: Final[LiteralString] = """
UPDATE controlplane.usage_event SET user_id = NULL, key_id = NULL, thread_id = NULL
 WHERE org_id = %(org_id)s
"""
