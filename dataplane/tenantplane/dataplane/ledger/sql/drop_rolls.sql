-- all orgs: a tree's rolls are made anew together.
DELETE FROM dataplane.spend_roll WHERE root_org_id = %(root)s
