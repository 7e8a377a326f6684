SELECT status
  FROM unnest(dataplane.append_intents(
         %(org_ids)s::text[], %(proofs)s::text[], %(intent_ids)s::uuid[],
         %(root_org_ids)s::text[], %(run_ids)s::uuid[], %(call_nos)s::integer[],
         %(thread_ids)s::text[], %(user_ids)s::text[], %(key_ids)s::text[], %(kinds)s::text[],
         %(resources)s::text[], %(holds)s::bigint[], %(price_books)s::integer[],
         %(idempotency_keys)s::text[], %(epochs)s::bigint[], %(slot_lists)s::text[],
         %(requests)s::bytea[], %(commit_bys)s::timestamptz[], %(deadlines)s::timestamptz[]
       )) WITH ORDINALITY AS answered (status, at)
 ORDER BY at
