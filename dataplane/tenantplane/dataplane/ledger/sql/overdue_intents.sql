-- all orgs: the sweeper ends what a crash left open.
-- In pages: what cannot be ended now must not stand in the way of what can.
SELECT org_id, intent_id, root_org_id, run_id, call_no, thread_id, user_id, kind, resource,
       hold_nanousd, request_ciphertext, deadline_at
  FROM dataplane.intent
 WHERE stage IS NULL AND deadline_at < %(before)s
   AND (deadline_at, org_id, intent_id) > (%(after_deadline)s, %(after_org)s, %(after_intent)s)
 ORDER BY deadline_at, org_id, intent_id
 LIMIT %(limit)s
