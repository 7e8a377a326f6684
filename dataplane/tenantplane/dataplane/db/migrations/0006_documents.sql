-- Documents of a tenant, their chunks and vectors; and, for a tenant with many, an index of its own.

-- One row per org: its lock is what writers of the org queue behind, and its space is the one that
-- its documents should be embedded in. (Counts are kept here: counting 60,000 rows takes longer.)
CREATE TABLE dataplane.library (
  org_id          text PRIMARY KEY,
  documents       integer NOT NULL DEFAULT 0 CHECK (documents >= 0),
  chunks          integer NOT NULL DEFAULT 0 CHECK (chunks >= 0),
  embedding_model text,
  dimensions      integer
);
SELECT tp.protect('dataplane.library');
SELECT tp.allow_system('dataplane.library', 'SELECT');

CREATE TABLE dataplane.document (
  org_id          text NOT NULL,
  document_id     uuid NOT NULL,
  name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 512),
  media_type      text NOT NULL,
  size_bytes      bigint NOT NULL CHECK (size_bytes >= 0),
  sha256          text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  chunks          integer NOT NULL CHECK (chunks >= 0),
  embedding_model text NOT NULL,
  dimensions      integer NOT NULL CHECK (dimensions BETWEEN 1 AND 2000),
  version         bigint NOT NULL DEFAULT 1,  -- rises with each change of its chunks
  user_id         text NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org_id, document_id),
  UNIQUE (org_id, name)
);
SELECT tp.protect('dataplane.document');

-- Which partition of dataplane.chunk is an org's own; an org without a row has none. Written by the
-- functions below alone: who could choose a shelf could spoil another's index.
CREATE TABLE dataplane.shelf (
  org_id text PRIMARY KEY,
  shelf  integer NOT NULL CHECK (shelf > 0)
);
SELECT tp.protect('dataplane.shelf', 'SELECT');
SELECT tp.allow_system('dataplane.shelf', 'SELECT');

-- Chunks stand on shelf 0, which all orgs share, and are searched there exactly; those of an org
-- past the size are moved, a few at a time, to a shelf of its own with indexes of its own. The
-- partition is the shelf's and not the org's, so that no DEFAULT partition is scanned under a lock
-- when one is added, and so that no name in the catalogue says whose it is.
--
-- No foreign key to the document: deleting one would search all partitions for its chunks, and
-- adding a partition would lock all orgs' documents. The wrapper changes both in one transaction.
--
-- MAIN: a vector moved out of line (as rows past 2 kB are) would cost an exact scan one look-up a
-- row. A server without pgvector keeps documents as they are, and refuses to search vectors.
CREATE TABLE dataplane.chunk (
  org_id          text NOT NULL,
  document_id     uuid NOT NULL,
  "position"      integer NOT NULL CHECK ("position" >= 0),
  shelf           integer NOT NULL DEFAULT 0,
  embedding_model text NOT NULL,
  dimensions      integer NOT NULL,
  heading         text,
  body            text NOT NULL,
  words           tsvector NOT NULL,
  PRIMARY KEY (org_id, document_id, "position", shelf)
) PARTITION BY LIST (shelf);
DO $$
BEGIN
  IF to_regtype('public.vector') IS NULL THEN
    ALTER TABLE dataplane.chunk ADD COLUMN embedding real[] NOT NULL;
  ELSE
    ALTER TABLE dataplane.chunk ADD COLUMN embedding public.vector NOT NULL
      CHECK (public.vector_dims(embedding) = dimensions);
    ALTER TABLE dataplane.chunk ALTER COLUMN embedding SET STORAGE MAIN;
  END IF;
END
$$;
SELECT tp.protect('dataplane.chunk');
-- App puts rows on the shared shelf alone.
DO $$
BEGIN
  EXECUTE format('CREATE POLICY arrivals ON dataplane.chunk AS RESTRICTIVE FOR ALL TO %I '
                 'USING (true) WITH CHECK (shelf = 0)', tp.role_name('app'));
END
$$;
CREATE TABLE dataplane.chunk_0 PARTITION OF dataplane.chunk FOR VALUES IN (0);
SELECT tp.protect('dataplane.chunk_0', '');

-- Words of the tenant's chunks. `@@` is not leakproof, so under row-level security its index would
-- never be used: this function applies the tenant itself, as the proof of the transaction names it.
-- First come chunks that match the query as it was written (websearch_to_tsquery: quotes, or, -),
-- then, where it has neither quotes nor -, those with any of its words: a question in whole sentences
-- matches nothing otherwise. Of such words those are left out that stand in more than a fifth of a
-- sample of 100 of the tenant's chunks, where there are others: they tell nothing, in any language, and
-- ranking all chunks by them would take longest.
CREATE FUNCTION dataplane.search_words(query text, depth integer)
  RETURNS TABLE (document_id uuid, "position" integer)
  LANGUAGE plpgsql STABLE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  SET plan_cache_mode = force_custom_plan
  SET max_parallel_workers_per_gather = 0
AS $$
#variable_conflict use_column
DECLARE
  org     text := tp.current_org();
  shelves integer[];
  asked   tsquery := websearch_to_tsquery('simple', query);
  any_of  tsquery;
  sample  tsvector[];
  found   integer;
BEGIN
  -- Without a tenant org is NULL, which equals none: then no row is found.
  IF numnode(asked) = 0 THEN
    RETURN;
  END IF;
  SELECT ARRAY[0] || array_agg(s.shelf) INTO shelves FROM dataplane.shelf s WHERE s.org_id = org;

  RETURN QUERY
    SELECT c.document_id, c.position FROM dataplane.chunk c
     WHERE c.org_id = org AND c.shelf = ANY (shelves) AND c.words @@ asked
     ORDER BY ts_rank(c.words, asked, 1) DESC, c.document_id, c.position LIMIT depth;
  GET DIAGNOSTICS found = ROW_COUNT;
  IF found >= depth OR query ~ '"|(^|\s)-\S' THEN
    RETURN;
  END IF;

  SELECT array_agg(s.words) INTO sample
    FROM (SELECT c.words FROM dataplane.chunk c
           WHERE c.org_id = org AND c.shelf = ANY (shelves) LIMIT 100) s;
  -- Quoted as a tsquery wants it: quote_literal would write E'…' around a backslash.
  SELECT string_agg(w.quoted, ' | ')::tsquery INTO any_of
    FROM (SELECT u.quoted, u.is_common, bool_and(u.is_common) OVER () AS all_common
            FROM (SELECT q.quoted,
                         count(*) >= 50 AND count(*) < 5 * count(*) FILTER (
                           WHERE t.words @@ q.quoted::tsquery) AS is_common
                    FROM (SELECT '''' || replace(replace(l.lexeme, '\', '\\'), '''', '''''') || ''''
                            FROM unnest(to_tsvector('simple', query)) l) q (quoted),
                         unnest(sample) AS t (words)
                   GROUP BY q.quoted) u) w
   WHERE NOT w.is_common OR w.all_common;
  RETURN QUERY
    SELECT c.document_id, c.position FROM dataplane.chunk c
     WHERE c.org_id = org AND c.shelf = ANY (shelves) AND c.words @@ any_of
       AND NOT c.words @@ asked
     ORDER BY ts_rank(c.words, any_of, 1) DESC, c.document_id, c.position LIMIT depth - found;
END
$$;
SELECT tp.allow_execute('dataplane.search_words(text, integer)'::regprocedure, 'app',
                        'full text under RLS cannot use its index; takes no org, asks for the proof');

-- The functions of the indexer, for system alone. Each is one short transaction: a long one would
-- hold the horizon below which usage is shipped, and the barrier of an epoch, for all orgs.

-- Gives the org a shelf of its own: one that is free, or a new partition. Answers its number.
-- Blocks nobody's reads or writes of chunks (ATTACH without a DEFAULT partition takes a lock that
-- only other schema changes meet); gives up after the lock time-out rather than stand in a queue.
CREATE FUNCTION dataplane.open_shelf(org text) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  SET lock_timeout = '1s'
AS $$
DECLARE
  number integer;
  part   text;
BEGIN
  -- Of several indexers one acts at a time; readers of the table are not in its way.
  LOCK TABLE dataplane.shelf IN SHARE ROW EXCLUSIVE MODE;
  SELECT s.shelf INTO number FROM dataplane.shelf s WHERE s.org_id = org;
  IF FOUND THEN
    RETURN number;
  END IF;
  SELECT f.shelf INTO number FROM dataplane.free_shelves() f
   WHERE pg_relation_size(f.part) = 0 ORDER BY f.shelf LIMIT 1;
  IF NOT FOUND THEN
    SELECT 1 + count(*) INTO number FROM pg_inherits WHERE inhparent = 'dataplane.chunk'::regclass;
    WHILE to_regclass(format('dataplane.chunk_%s', to_hex(number))) IS NOT NULL LOOP
      number := number + 1;
    END LOOP;
    part := format('dataplane.chunk_%s', to_hex(number));
    EXECUTE format('CREATE TABLE %s (LIKE dataplane.chunk INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
                   'INCLUDING STORAGE INCLUDING INDEXES, CHECK (shelf = %s))', part, number);
    PERFORM tp.protect(part::regclass, '');
    -- Not FASTUPDATE: its pending list would be paid for by somebody's search.
    EXECUTE format('CREATE INDEX ON %s USING gin (words) WITH (fastupdate = off)', part);
    EXECUTE format('ALTER TABLE dataplane.chunk ATTACH PARTITION %s FOR VALUES IN (%s)',
                   part, number);
  END IF;
  INSERT INTO dataplane.shelf (org_id, shelf) VALUES (org, number);
  RETURN number;
END
$$;

-- Partitions that no org has.
CREATE FUNCTION dataplane.free_shelves() RETURNS TABLE (shelf integer, part regclass)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p.shelf, p.part
    FROM (SELECT i.inhrelid::regclass AS part,
                 ('x' || lpad(substring(c.relname FROM '^chunk_([0-9a-f]{1,8})$'), 8, '0'))::bit(32)::integer AS shelf
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           WHERE i.inhparent = 'dataplane.chunk'::regclass) p
   WHERE p.shelf > 0 AND NOT EXISTS (SELECT FROM dataplane.shelf s WHERE s.shelf = p.shelf)
$$;

-- Moves up to `batch` chunks of the org from the shared shelf to its own, making first the index of
-- a space that the shelf has no chunk of yet (so: on no rows). Answers how many it moved; 0 where
-- there is nothing to move, no shelf to move to, or a writer or another indexer is at work on the
-- org: the next look goes on. Writers of this org wait for it, nobody else.
CREATE FUNCTION dataplane.shelve_chunks(org text, batch integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  SET lock_timeout = '1s'
  SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  number integer;
  moved  integer;
  space  record;
BEGIN
  PERFORM FROM dataplane.library l WHERE l.org_id = org FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  SELECT s.shelf INTO number FROM dataplane.shelf s WHERE s.org_id = org FOR SHARE;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  SELECT c.embedding_model AS model, c.dimensions INTO space FROM dataplane.chunk c
   WHERE c.org_id = org AND c.shelf = 0 LIMIT 1;
  IF NOT FOUND THEN
    PERFORM dataplane.drop_unused_indexes(number);
    RETURN 0;
  END IF;
  PERFORM dataplane.index_space(number, space.model, space.dimensions);
  UPDATE dataplane.chunk c SET shelf = number
    FROM (SELECT a.document_id, a.position FROM dataplane.chunk a
           WHERE a.org_id = org AND a.shelf = 0 AND a.embedding_model = space.model
             AND a.dimensions = space.dimensions LIMIT batch) moving
   WHERE c.org_id = org AND c.shelf = 0
     AND c.document_id = moving.document_id AND c.position = moving.position;
  GET DIAGNOSTICS moved = ROW_COUNT;
  RETURN moved;
END
$$;

-- The vector index of one space on one shelf: made while the shelf has no chunk of that space yet.
CREATE FUNCTION dataplane.index_space(shelf integer, model text, dimensions integer) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  part text := format('chunk_%s', to_hex(shelf));
  name text := format('%s_%s_%s', part, dimensions,
                      left(encode(sha256(convert_to(model, 'UTF8')), 'hex'), 12));
BEGIN
  IF to_regtype('public.vector') IS NULL OR to_regclass('dataplane.' || name) IS NOT NULL THEN
    RETURN;
  END IF;
  EXECUTE format('CREATE INDEX %I ON dataplane.%I USING hnsw '
                 '((embedding::public.vector(%s)) public.vector_cosine_ops) '
                 'WHERE embedding_model = %L AND dimensions = %s',
                 name, part, dimensions, model, dimensions);
END
$$;

-- Drops the vector indexes of spaces that no chunk of the shelf is in any more.
CREATE FUNCTION dataplane.drop_unused_indexes(shelf integer) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  part regclass := format('dataplane.chunk_%s', to_hex(shelf))::regclass;
  old  record;
  used boolean;
BEGIN
  FOR old IN
    SELECT i.indexrelid::regclass AS name, pg_get_expr(i.indpred, i.indrelid) AS rule
      FROM pg_index i WHERE i.indrelid = part AND i.indpred IS NOT NULL
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s)', part, old.rule) INTO used;
    IF NOT used THEN
      EXECUTE format('DROP INDEX %s', old.name);
    END IF;
  END LOOP;
END
$$;

-- The way back, for an org that has shrunk or is gone: up to `batch` chunks return to the shared
-- shelf. When none is left the shelf is given up. Answers how many it moved.
CREATE FUNCTION dataplane.unshelve_chunks(org text, batch integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  SET lock_timeout = '1s'
  SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
  number integer;
  moved  integer;
BEGIN
  PERFORM FROM dataplane.library l WHERE l.org_id = org FOR UPDATE;
  LOCK TABLE dataplane.shelf IN SHARE ROW EXCLUSIVE MODE;
  SELECT s.shelf INTO number FROM dataplane.shelf s WHERE s.org_id = org;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  UPDATE dataplane.chunk c SET shelf = 0
    FROM (SELECT a.document_id, a.position FROM dataplane.chunk a
           WHERE a.org_id = org AND a.shelf = number LIMIT batch) moving
   WHERE c.org_id = org AND c.shelf = number
     AND c.document_id = moving.document_id AND c.position = moving.position;
  GET DIAGNOSTICS moved = ROW_COUNT;
  IF moved < batch THEN
    DELETE FROM dataplane.shelf s WHERE s.org_id = org;
  END IF;
  RETURN moved;
END
$$;

-- Empties the files of shelves that nobody has, with what deleted rows left in them, so that they
-- can be given to another org. Answers how many it emptied.
CREATE FUNCTION dataplane.clear_shelves() RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  SET lock_timeout = '1s'
AS $$
DECLARE
  free    record;
  cleared integer := 0;
BEGIN
  LOCK TABLE dataplane.shelf IN SHARE ROW EXCLUSIVE MODE;
  FOR free IN SELECT f.shelf, f.part FROM dataplane.free_shelves() f
               WHERE pg_relation_size(f.part) > 0 LOOP
    EXECUTE format('TRUNCATE %s', free.part);
    PERFORM dataplane.drop_unused_indexes(free.shelf);
    cleared := cleared + 1;
  END LOOP;
  RETURN cleared;
END
$$;

SELECT tp.allow_execute(called, 'system', 'the indexer moves an org''s chunks, and makes the '
                        'partitions and indexes that only an owner can make; app has no EXECUTE')
  FROM unnest('{dataplane.open_shelf(text),"dataplane.shelve_chunks(text, integer)",
                "dataplane.unshelve_chunks(text, integer)",
                dataplane.clear_shelves()}'::regprocedure[]) called;
