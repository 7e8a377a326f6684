SELECT dataplane.append_intents(
         %(proofs)s::json, %(intents)s::json, %(requests)b::bytea[]) AS statuses
