-- The cast is written as the function that it is, since a type's modifier cannot be a parameter; the
-- planner sees the same expression as the index of the space has.
SELECT document_id, "position" FROM dataplane.chunk
 WHERE org_id = %(org_id)s AND shelf = ANY (%(shelves)s::integer[])
   AND embedding_model = %(model)s::text AND dimensions = %(dimensions)s::integer
 ORDER BY public.vector(embedding, %(dimensions)s::integer, true)
          OPERATOR(public.<=>) %(embedding)s::public.vector
 LIMIT %(depth)s
