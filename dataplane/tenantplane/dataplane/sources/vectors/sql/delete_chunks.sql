DELETE FROM dataplane.chunk
 WHERE org_id = %(org_id)s AND shelf = ANY (%(shelves)s::integer[])
   AND document_id = %(document_id)s
