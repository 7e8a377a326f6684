UPDATE dataplane.library
   SET documents = documents + %(documents)s::integer, chunks = chunks + %(chunks)s::integer,
       embedding_model = coalesce(%(model)s::text, embedding_model),
       dimensions = coalesce(%(dimensions)s::integer, dimensions)
 WHERE org_id = %(org_id)s
