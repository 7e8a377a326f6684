-- All checkpoints of a thread but the named ones that are not newer than the newest of those: what
-- a run writes meanwhile stays. Their writes go with them.
WITH kept AS (
  SELECT k.ns, k.id FROM unnest(%(kept_ns)s::text[], %(kept_ids)s::text[]) AS k (ns, id)
), gone AS (
  DELETE FROM dataplane.checkpoint c
   WHERE c.org_id = %(org_id)s AND c.thread_id = %(thread_id)s
     AND c.checkpoint_id < (SELECT max(k.id) FROM kept k WHERE k.ns = c.checkpoint_ns)
     AND NOT EXISTS (SELECT FROM kept k WHERE k.ns = c.checkpoint_ns AND k.id = c.checkpoint_id)
  RETURNING c.checkpoint_ns, c.checkpoint_id
)
DELETE FROM dataplane.checkpoint_write w USING gone
 WHERE w.org_id = %(org_id)s AND w.thread_id = %(thread_id)s
   AND w.checkpoint_ns = gone.checkpoint_ns AND w.checkpoint_id = gone.checkpoint_id
