-- Made or found, and locked: writers of one org take turns, and the mover of its chunks with them.
INSERT INTO dataplane.library (org_id) VALUES (%(org_id)s)
ON CONFLICT (org_id) DO UPDATE SET chunks = library.chunks
