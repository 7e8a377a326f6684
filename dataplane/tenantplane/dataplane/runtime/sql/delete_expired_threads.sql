-- all orgs: one setting of the plane bounds the life of every org's threads.
-- Threads that no run touched since, with all their state; a thread that is at work stays. The
-- conditions stand twice: a thread that is claimed meanwhile is looked at again before it goes.
WITH gone AS (
  DELETE FROM dataplane.thread t
   USING (SELECT org_id, thread_id FROM dataplane.thread
           WHERE updated_at < now() - make_interval(secs => %(seconds)s)
             AND (busy_until IS NULL OR busy_until < now())
           ORDER BY updated_at LIMIT %(most)s) old
   WHERE t.org_id = old.org_id AND t.thread_id = old.thread_id
     AND t.updated_at < now() - make_interval(secs => %(seconds)s)
     AND (t.busy_until IS NULL OR t.busy_until < now())
  RETURNING t.org_id, t.thread_id
), checkpoints AS (
  DELETE FROM dataplane.checkpoint c USING gone
   WHERE c.org_id = gone.org_id AND c.thread_id = gone.thread_id
), blobs AS (
  DELETE FROM dataplane.checkpoint_blob b USING gone
   WHERE b.org_id = gone.org_id AND b.thread_id = gone.thread_id
), writes AS (
  DELETE FROM dataplane.checkpoint_write w USING gone
   WHERE w.org_id = gone.org_id AND w.thread_id = gone.thread_id
)
SELECT count(*) AS gone FROM gone
