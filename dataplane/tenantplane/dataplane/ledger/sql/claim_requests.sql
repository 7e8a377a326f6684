SELECT status, run_id
  FROM dataplane.claim_requests(
         %(org_ids)s::text[], %(proofs)s::text[], %(principals)s::text[], %(routes)s::text[],
         %(keys)s::text[], %(fingerprints)s::bytea[], %(run_ids)s::uuid[],
         %(lease_seconds)s::float8, %(keep_seconds)s::float8
       ) WITH ORDINALITY AS answered (status, run_id, at)
 ORDER BY at
