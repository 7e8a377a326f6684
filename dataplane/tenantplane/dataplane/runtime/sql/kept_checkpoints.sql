-- The newest checkpoints of each of a thread's namespaces, and whether there are older ones.
SELECT checkpoint_ns, checkpoint_id, nth
  FROM (SELECT checkpoint_ns, checkpoint_id,
               row_number() OVER (PARTITION BY checkpoint_ns ORDER BY checkpoint_id DESC) AS nth
          FROM dataplane.checkpoint
         WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s) ranked
 WHERE nth <= %(kept)s + 1
