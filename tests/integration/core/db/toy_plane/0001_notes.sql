-- A toy plane: one tenant table with a child, one shared table, and one append function.
CREATE TABLE public.note (
  org_id text NOT NULL,
  id     uuid NOT NULL DEFAULT uuidv7(),
  body   text NOT NULL,
  PRIMARY KEY (org_id, id)
);
SELECT tp.protect('public.note');
SELECT tp.allow_system('public.note', 'SELECT');
SELECT tp.allow_query('public.note');

CREATE TABLE public.comment (
  org_id  text NOT NULL,
  id      uuid NOT NULL DEFAULT uuidv7(),
  note_id uuid NOT NULL,
  PRIMARY KEY (org_id, id),
  FOREIGN KEY (org_id, note_id) REFERENCES public.note (org_id, id)
);
SELECT tp.protect('public.comment', 'SELECT, INSERT');

CREATE TABLE public.epoch (number bigint NOT NULL);
INSERT INTO public.epoch VALUES (1);
SELECT tp.share('public.epoch', 'app', 'SELECT', 'the ledger''s epoch belongs to no org');

CREATE FUNCTION public.append_notes(orgs text[], proofs text[], bodies text[])
  RETURNS TABLE (ordinal bigint, id uuid)
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH wanted AS (
    SELECT w.ordinal, w.org, w.body, uuidv7() AS id
      FROM unnest(orgs, proofs, bodies) WITH ORDINALITY AS w (org, proof, body, ordinal)
     WHERE tp.verify_proof(w.org, w.proof)
  ), written AS (
    INSERT INTO public.note (org_id, id, body) SELECT w.org, w.id, w.body FROM wanted w
  )
  SELECT w.ordinal, w.id FROM wanted w
$$;
SELECT tp.allow_execute('public.append_notes(text[],text[],text[])', 'app',
                        'group commit across tenants, a proof for each row');
