SELECT status, event_id, record_id, cost_nanousd
  FROM dataplane.append_outcomes(
         %(org_ids)s::text[], %(proofs)s::text[], %(intent_ids)s::uuid[], %(stages)s::text[],
         %(event_ids)s::uuid[], %(record_ids)s::uuid[], %(input_tokens)s::bigint[],
         %(output_tokens)s::bigint[], %(costs)s::bigint[], %(occurred_ats)s::timestamptz[],
         %(ciphertexts)s::bytea[], %(entries)s::bytea[]
       ) WITH ORDINALITY AS answered (status, event_id, record_id, cost_nanousd, at)
 ORDER BY at
