-- all orgs: a tree's calls are swept together.
SELECT org_id, intent_id, hold_nanousd AS held FROM dataplane.intent
 WHERE root_org_id = %(root)s AND stage IS NULL AND deadline_at < %(before)s
 ORDER BY intent_id
