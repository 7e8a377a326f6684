SELECT c.document_id, c."position", d.name AS document_name, c.heading, c.body
  FROM unnest(%(document_ids)s::uuid[], %(positions)s::integer[]) AS found (document_id, "position")
  JOIN dataplane.chunk c
    ON c.org_id = %(org_id)s AND c.shelf = ANY (%(shelves)s::integer[])
   AND c.document_id = found.document_id AND c."position" = found."position"
  JOIN dataplane.document d ON d.org_id = %(org_id)s AND d.document_id = found.document_id
