-- Onto the shared shelf: an index of the new space on the org's own may not be there yet.
UPDATE dataplane.chunk c
   SET embedding = given.embedding::public.vector, embedding_model = %(model)s,
       dimensions = %(dimensions)s, shelf = 0
  FROM unnest(%(positions)s::integer[], %(embeddings)s::text[]) AS given (at, embedding)
 WHERE c.org_id = %(org_id)s AND c.shelf = ANY (%(shelves)s::integer[])
   AND c.document_id = %(document_id)s AND c."position" = given.at
