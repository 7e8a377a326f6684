-- Zero rows: the id is taken by other bytes. Installing the same key again also ends its retirement.
INSERT INTO tp.context_key AS known (key_id, inner_pad, outer_pad)
VALUES (%(key_id)s, %(inner_pad)s, %(outer_pad)s)
ON CONFLICT (key_id) DO UPDATE SET valid_until = NULL
 WHERE known.inner_pad = excluded.inner_pad AND known.outer_pad = excluded.outer_pad
RETURNING key_id
