SELECT org_id, intent_id, root_org_id, run_id, call_no, thread_id, user_id, kind, resource,
       hold_nanousd, request_ciphertext
  FROM dataplane.intent
 WHERE stage IS NULL AND deadline_at < %(before)s
 ORDER BY deadline_at
 LIMIT %(limit)s
