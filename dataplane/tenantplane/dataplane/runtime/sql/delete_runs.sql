-- The checkpoints of runs, with their writes; answers the threads that they were of.
WITH gone AS (
  DELETE FROM dataplane.checkpoint
   WHERE org_id = %(org_id)s AND run_id = ANY (%(run_ids)s)
  RETURNING thread_id, checkpoint_ns, checkpoint_id
), written AS (
  DELETE FROM dataplane.checkpoint_write w USING gone
   WHERE w.org_id = %(org_id)s AND w.thread_id = gone.thread_id
     AND w.checkpoint_ns = gone.checkpoint_ns AND w.checkpoint_id = gone.checkpoint_id
)
SELECT DISTINCT thread_id FROM gone
