-- all orgs: whose chunks are to be moved is decided for the whole plane.
SELECT org_id, coalesce(l.chunks, 0) AS chunks, s.shelf IS NOT NULL AS has_shelf
  FROM dataplane.library l FULL JOIN dataplane.shelf s USING (org_id)
 WHERE l.chunks >= %(index_from)s OR s.shelf IS NOT NULL
 -- So that two replicas seldom wait for each other at the same org.
 ORDER BY random()
