-- Values that no checkpoint consists of any more.
DELETE FROM dataplane.checkpoint_blob b
 WHERE b.org_id = %(org_id)s AND b.thread_id = ANY (%(thread_ids)s)
   AND NOT EXISTS (SELECT FROM dataplane.checkpoint c
                    WHERE c.org_id = %(org_id)s AND c.thread_id = b.thread_id
                      AND c.checkpoint_ns = b.checkpoint_ns AND b.blob_id = ANY (c.blobs))
