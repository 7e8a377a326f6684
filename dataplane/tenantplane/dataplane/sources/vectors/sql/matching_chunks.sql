SELECT document_id, "position"
  FROM dataplane.search_words(%(query)s, %(depth)s) WITH ORDINALITY AS found (document_id, "position", rank)
 ORDER BY rank
