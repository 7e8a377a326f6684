-- A page of checkpoints, newest first, with their values and tasks' writes; the caller sorts again.
WITH chosen AS MATERIALIZED (
  SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, blobs, body
    FROM dataplane.checkpoint
   WHERE org_id = %(org_id)s
     AND (%(thread_id)s::text IS NULL OR thread_id = %(thread_id)s)
     AND (%(ns)s::text IS NULL OR checkpoint_ns = %(ns)s)
     AND (%(id)s::text IS NULL OR checkpoint_id = %(id)s)
     AND (%(before)s::text IS NULL OR checkpoint_id < %(before)s)
     AND (%(source)s::text IS NULL OR source = %(source)s)
     AND (%(step)s::integer IS NULL OR step = %(step)s)
     AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
     AND (%(after_id)s::text IS NULL
          OR (checkpoint_id, thread_id, checkpoint_ns)
             < (%(after_id)s, %(after_thread)s, %(after_ns)s))
   ORDER BY checkpoint_id DESC, thread_id DESC, checkpoint_ns DESC LIMIT %(limit)s
)
SELECT 'checkpoint' AS kind, c.thread_id, c.checkpoint_ns, c.checkpoint_id,
       c.parent_checkpoint_id AS name, NULL AS task_id, 0 AS idx, '' AS task_path, c.body
  FROM chosen c
UNION ALL
SELECT 'blob', b.thread_id, b.checkpoint_ns, NULL, b.blob_id, NULL, 0, '', b.body
  FROM (SELECT DISTINCT c.thread_id, c.checkpoint_ns, r.blob_id
          FROM chosen c CROSS JOIN unnest(c.blobs) AS r (blob_id)) wanted
  JOIN dataplane.checkpoint_blob b
    ON b.org_id = %(org_id)s AND b.thread_id = wanted.thread_id
   AND b.checkpoint_ns = wanted.checkpoint_ns AND b.blob_id = wanted.blob_id
UNION ALL
SELECT 'write', w.thread_id, w.checkpoint_ns, w.checkpoint_id, w.channel, w.task_id, w.idx,
       w.task_path, w.body
  FROM chosen c
  JOIN dataplane.checkpoint_write w
    ON w.org_id = %(org_id)s AND w.thread_id = c.thread_id
   AND w.checkpoint_ns = c.checkpoint_ns AND w.checkpoint_id = c.checkpoint_id
