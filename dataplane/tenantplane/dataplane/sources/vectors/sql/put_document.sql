-- Of the same name: it keeps its id and the time it was made at.
INSERT INTO dataplane.document AS d (
  org_id, document_id, name, media_type, size_bytes, sha256, chunks, embedding_model, dimensions,
  user_id)
VALUES (%(org_id)s, %(document_id)s, %(name)s, %(media_type)s, %(size_bytes)s, %(sha256)s,
        %(chunks)s, %(model)s, %(dimensions)s, %(user_id)s)
ON CONFLICT (org_id, document_id) DO UPDATE
   SET media_type = excluded.media_type, size_bytes = excluded.size_bytes,
       sha256 = excluded.sha256, chunks = excluded.chunks,
       embedding_model = excluded.embedding_model, dimensions = excluded.dimensions,
       user_id = excluded.user_id, version = d.version + 1, updated_at = clock_timestamp()
