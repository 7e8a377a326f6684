SELECT intent_id, stage, cost_nanousd, user_id, run_id, call_no, thread_id, kind, resource, root_org_id
  FROM dataplane.intent
 WHERE org_id = %(org_id)s AND intent_id = ANY (%(intent_ids)s)
