-- A vector as text and in an array: one statement for many chunks, one plan, one round trip.
INSERT INTO dataplane.chunk (
  org_id, document_id, "position", embedding_model, dimensions, heading, body, words, embedding)
SELECT %(org_id)s, %(document_id)s, given.at, %(model)s, %(dimensions)s, given.heading,
       given.body, to_tsvector('simple', concat_ws(' ', given.heading, given.body)),
       given.embedding::public.vector
  FROM unnest(%(positions)s::integer[], %(headings)s::text[], %(bodies)s::text[],
              %(embeddings)s::text[]) AS given (at, heading, body, embedding)
