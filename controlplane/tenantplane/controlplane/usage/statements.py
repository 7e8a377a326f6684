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
RETURNING org_id, event_id
"""
# In one order everywhere, so that batches of two replicas do not wait in a circle.
ADD_PLANE_USAGE: Final[LiteralString] = """
INSERT INTO controlplane.plane_usage AS u (org_id, plane, root_org_id, events, nanousd)
SELECT row.org_id, %(plane)s, row.root_org_id, row.events, row.nanousd
  FROM unnest(%(org_ids)s::text[], %(roots)s::text[], %(events)s::bigint[], %(nanousd)s::bigint[])
       AS row (org_id, root_org_id, events, nanousd)
 ORDER BY row.org_id
ON CONFLICT (org_id, plane) DO UPDATE
   SET events = u.events + excluded.events, nanousd = u.nanousd + excluded.nanousd
"""
ADD_LEVEL_SPEND: Final[LiteralString] = """
INSERT INTO controlplane.level_spend AS s (org_id, period, period_id, events, nanousd)
SELECT row.*
  FROM unnest(%(org_ids)s::text[], %(periods)s::text[], %(period_ids)s::text[],
              %(events)s::bigint[], %(nanousd)s::bigint[])
       AS row (org_id, period, period_id, events, nanousd)
 ORDER BY row.org_id, row.period, row.period_id
ON CONFLICT (org_id, period, period_id) DO UPDATE
   SET events = s.events + excluded.events, nanousd = s.nanousd + excluded.nanousd
RETURNING org_id, period, period_id, nanousd
"""
# Each threshold once in a period.
RAISE_ALERTS: Final[LiteralString] = """
INSERT INTO controlplane.spend_alert
       (org_id, period, period_id, threshold_percent, cap_kind, cap_nanousd, spent_nanousd)
SELECT * FROM unnest(%(org_ids)s::text[], %(periods)s::text[], %(period_ids)s::text[],
                     %(thresholds)s::integer[], %(cap_kinds)s::text[], %(caps)s::bigint[],
                     %(spent)s::bigint[])
ON CONFLICT (org_id, period, period_id, threshold_percent) DO NOTHING
RETURNING org_id, period, period_id, threshold_percent
"""
ALERTS: Final[LiteralString] = """
SELECT period, period_id, threshold_percent, cap_kind, cap_nanousd, spent_nanousd, raised_at
  FROM controlplane.spend_alert
 WHERE org_id = %(org_id)s
 ORDER BY raised_at DESC, period, period_id DESC, threshold_percent DESC
 LIMIT %(limit)s
"""
DAYS: Final[LiteralString] = """
SELECT period_id, nanousd FROM controlplane.level_spend
 WHERE org_id = %(org_id)s AND period = 'day' AND period_id >= %(since)s
"""
# Of a root its purged orgs too: what they spent is the contract's.
TREE: Final[LiteralString] = """
-- all orgs: a contract's usage is that of all orgs under it.
SELECT o.org_id FROM controlplane.org o WHERE o.path @> ARRAY[%(org_id)s]
UNION
SELECT u.org_id FROM controlplane.plane_usage u WHERE u.root_org_id = %(org_id)s
 ORDER BY 1
"""
PLANE_USAGE: Final[LiteralString] = """
-- all orgs: a plane compares itself with what it has reported of all its orgs.
SELECT org_id, events, nanousd FROM controlplane.plane_usage WHERE plane = %(plane)s
 ORDER BY org_id
"""
# What a plane reported of an org, for one whose database lost it. Of an org that was purged nobody
# knows by whom.
PLANE_EVENTS: Final[LiteralString] = """
SELECT event_id, org_id, root_org_id, coalesce(user_id, '') AS user_id, key_id, run_id, call_no,
       thread_id, intent_id, stage, kind, resource, input_tokens, output_tokens, cost_nanousd,
       delta_nanousd, price_book_version, provider_excess, occurred_at
  FROM controlplane.usage_event
 WHERE org_id = %(org_id)s AND plane = %(plane)s AND event_id > %(after)s
 ORDER BY event_id
 LIMIT %(limit)s
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
         row_number() OVER (PARTITION BY org_id, intent_id
                            ORDER BY stage = 'actual' DESC, occurred_at DESC, event_id) = 1 AS last
    FROM controlplane.usage_event
   WHERE org_id = ANY(%(org_ids)s)
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
