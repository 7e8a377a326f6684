-- The shared shelf, and the org's own where it has one.
SELECT ARRAY[0] || array_agg(shelf) AS shelves FROM dataplane.shelf WHERE org_id = %(org_id)s
