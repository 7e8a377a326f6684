SELECT dataplane.append_checkpoints(
         %(proofs)s::json, %(checkpoints)s::json, %(blobs)s::json, %(writes)s::json) AS refused
