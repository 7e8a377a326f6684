SELECT intent_id, stage FROM dataplane.intent
 WHERE org_id = %(org_id)s AND intent_id = %(intent_id)s
