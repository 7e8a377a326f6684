-- all orgs: the sweeper settles a tree's calls together.
SELECT i.intent_id, i.stage, i.cost_nanousd, o.input_tokens + o.output_tokens AS tokens
  FROM dataplane.intent i
  LEFT JOIN dataplane.outcome o
         ON o.org_id = i.org_id AND o.intent_id = i.intent_id AND o.stage = i.stage
 WHERE i.root_org_id = %(root)s AND i.intent_id = ANY (%(intent_ids)s)
