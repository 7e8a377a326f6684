SELECT answer
  FROM unnest(dataplane.advance_requests(
         %(org_ids)s::text[], %(proofs)s::text[], %(principals)s::text[], %(routes)s::text[],
         %(keys)s::text[], %(run_ids)s::uuid[], %(statuses)s::text[], %(responses)s::bytea[],
         %(lease_seconds)s::float8
       )) WITH ORDINALITY AS answered (answer, at)
 ORDER BY at
