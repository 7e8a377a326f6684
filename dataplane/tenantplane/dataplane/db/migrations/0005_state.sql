-- State of agents, sealed: bodies are ciphertexts of the org's data key, bound to the row that they
-- stand in. What was written before this stood in clear; no SQL can seal it, and it must not stay.

DROP TABLE dataplane.checkpoint_write;
DROP TABLE dataplane.checkpoint;

-- One state of a thread's graph, without the values of its channels but for small ones. In clear are
-- only ids and the scalars that checkpoints are found by. Ids are time-ordered: compared by bytes.
CREATE TABLE dataplane.checkpoint (
  org_id               text NOT NULL,
  thread_id            text COLLATE "C" NOT NULL,
  checkpoint_ns        text COLLATE "C" NOT NULL,
  checkpoint_id        text COLLATE "C" NOT NULL,
  parent_checkpoint_id text COLLATE "C",
  source               text,
  step                 integer,
  run_id               text COLLATE "C",
  blobs                text[] COLLATE "C" NOT NULL,  -- blob_id of each larger value it consists of
  body                 bytea NOT NULL,
  created_at           timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, thread_id, checkpoint_ns, checkpoint_id),
  CHECK (starts_with(thread_id, org_id || '::'))
);
CREATE INDEX checkpoint_of_run ON dataplane.checkpoint (org_id, run_id) WHERE run_id IS NOT NULL;

-- One version of one channel's value: checkpoints that share it do not write it again. No foreign
-- key to checkpoints: several refer to each.
CREATE TABLE dataplane.checkpoint_blob (
  org_id        text NOT NULL,
  thread_id     text COLLATE "C" NOT NULL,
  checkpoint_ns text COLLATE "C" NOT NULL,
  blob_id       text COLLATE "C" NOT NULL,  -- version:channel
  body          bytea NOT NULL,
  PRIMARY KEY (org_id, thread_id, checkpoint_ns, blob_id),
  CHECK (starts_with(thread_id, org_id || '::'))
);

-- What a task wrote within a step, so that a resumed step does not run it again. No foreign key:
-- LangGraph may commit a task's writes before the checkpoint that they belong to.
CREATE TABLE dataplane.checkpoint_write (
  org_id        text NOT NULL,
  thread_id     text COLLATE "C" NOT NULL,
  checkpoint_ns text COLLATE "C" NOT NULL,
  checkpoint_id text COLLATE "C" NOT NULL,
  task_id       text COLLATE "C" NOT NULL,
  idx           integer NOT NULL,
  task_path     text COLLATE "C" NOT NULL,
  channel       text NOT NULL,
  body          bytea NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx),
  CHECK (starts_with(thread_id, org_id || '::'))
);

-- What agents of an org keep across threads (LangGraph's store). The namespace is stored as
-- `{org_id}::label.label`; labels hold no period.
CREATE TABLE dataplane.store_item (
  org_id      text NOT NULL,
  namespace   text COLLATE "C" NOT NULL,
  key         text COLLATE "C" NOT NULL,
  body        bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  ttl_seconds double precision CHECK (ttl_seconds > 0),
  expires_at  timestamptz,
  PRIMARY KEY (org_id, namespace, key),
  CHECK (starts_with(namespace, org_id || '::')),
  CHECK ((ttl_seconds IS NULL) = (expires_at IS NULL))
);
CREATE INDEX store_item_expiring ON dataplane.store_item (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX thread_touched ON dataplane.thread (updated_at);

-- App writes checkpoints through the append function alone.
SELECT tp.protect('dataplane.checkpoint', 'SELECT, DELETE');
SELECT tp.protect('dataplane.checkpoint_blob', 'SELECT, DELETE');
SELECT tp.protect('dataplane.checkpoint_write', 'SELECT, DELETE');
SELECT tp.protect('dataplane.store_item');
-- The retention job deletes what nobody touched for as long as the settings say.
SELECT tp.allow_system('dataplane.thread', 'SELECT, DELETE');
SELECT tp.allow_system('dataplane.checkpoint', 'SELECT, DELETE');
SELECT tp.allow_system('dataplane.checkpoint_blob', 'SELECT, DELETE');
SELECT tp.allow_system('dataplane.checkpoint_write', 'SELECT, DELETE');
SELECT tp.allow_system('dataplane.store_item', 'SELECT, DELETE');

-- Commits checkpoints, their blobs and tasks' writes of many orgs at once. `proofs` is an object of
-- org ids and their proofs: rows of an org without a valid one are left out, and the answer names
-- those orgs. Bodies are base64: one JSON text is a third of the work of as many arrays.
--   checkpoints  {o: org, t: thread, n: namespace, i: id, p: parent, s: source, e: step, r: run,
--                 b: [blob ids], d: body}   the same id again replaces
--   blobs        {o, t, n, i: blob id, d}   the same id again is the same value: the first stays
--   writes       {o, t, n, i: checkpoint, k: task, x: idx, a: path, c: channel, d}
--                a repeated task writes the same again: the first stays. Special writes (errors,
--                interrupts, their answers: negative idx) are replaced.
-- Two rows of one key within a call are an error, but for blobs: the caller sends the one that counts.
CREATE FUNCTION dataplane.append_checkpoints(
  proofs json, checkpoints json, blobs json, writes json
) RETURNS text[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  proven  text[];
  refused text[];
BEGIN
  SELECT coalesce(array_agg(p.org_id) FILTER (WHERE p.holds), '{}'),
         coalesce(array_agg(p.org_id) FILTER (WHERE NOT p.holds), '{}')
    INTO proven, refused
    FROM (SELECT o.key AS org_id, tp.verify_proof(o.key, o.value) IS TRUE AS holds
            FROM json_each_text(proofs) o) p;

  INSERT INTO dataplane.checkpoint_blob (org_id, thread_id, checkpoint_ns, blob_id, body)
  SELECT r.o, r.t, r.n, r.i, decode(r.d, 'base64')
    FROM json_to_recordset(blobs) AS r (o text, t text, n text, i text, d text)
   WHERE r.o = ANY (proven)
      ON CONFLICT DO NOTHING;

  INSERT INTO dataplane.checkpoint (
    org_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, source, step, run_id,
    blobs, body)
  SELECT r.o, r.t, r.n, r.i, r.p, r.s, r.e, r.r, r.b, decode(r.d, 'base64')
    FROM json_to_recordset(checkpoints) AS r (
           o text, t text, n text, i text, p text, s text, e integer, r text, b text[], d text)
   WHERE r.o = ANY (proven)
      ON CONFLICT (org_id, thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
     SET parent_checkpoint_id = EXCLUDED.parent_checkpoint_id, source = EXCLUDED.source,
         step = EXCLUDED.step, run_id = EXCLUDED.run_id, blobs = EXCLUDED.blobs,
         body = EXCLUDED.body;

  INSERT INTO dataplane.checkpoint_write (
    org_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, body)
  SELECT r.o, r.t, r.n, r.i, r.k, r.x, r.a, r.c, decode(r.d, 'base64')
    FROM json_to_recordset(writes) AS r (
           o text, t text, n text, i text, k text, x integer, a text, c text, d text)
   WHERE r.o = ANY (proven)
      ON CONFLICT (org_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
     SET channel = EXCLUDED.channel, body = EXCLUDED.body, task_path = EXCLUDED.task_path
   WHERE EXCLUDED.idx < 0;
  RETURN refused;
END
$$;

SELECT tp.allow_execute(
  'dataplane.append_checkpoints(json, json, json, json)'::regprocedure, 'app',
  'group commit across tenants: rows of an org are taken with the proof of that org alone');

-- The newest checkpoints of threads of many orgs at once, with their values and tasks' writes. It
-- runs with its caller's rights: it enters one tenant after the other by the proof that came for
-- each, and what row-level security then shows is what it answers.
--   wanted  [{o: org, p: proof, w: [{t: thread, n: namespace}]}]
-- Of a thread with more than `most_bytes` there are rows without bodies: it is read by itself, so
-- that the others do not wait for it.
CREATE FUNCTION dataplane.latest_checkpoints(wanted json, most_bytes bigint)
  RETURNS TABLE (kind text, thread_id text, checkpoint_ns text, checkpoint_id text, name text,
                 task_id text, idx integer, task_path text, body bytea)
  LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  tenant record;
BEGIN
  FOR tenant IN SELECT r.o, r.p, r.w FROM json_to_recordset(wanted) AS r (o text, p text, w json)
  LOOP
    PERFORM set_config('app.current_tenant', tenant.o, true),
            set_config('app.tenant_proof', tenant.p, true);
    RETURN QUERY
    WITH chosen AS MATERIALIZED (
      SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.blobs, c.body
        FROM json_to_recordset(tenant.w) AS w (t text, n text)
       CROSS JOIN LATERAL (
         SELECT * FROM dataplane.checkpoint k
          WHERE k.org_id = tenant.o AND k.thread_id = w.t AND k.checkpoint_ns = w.n
          ORDER BY k.checkpoint_id DESC LIMIT 1) c
    ), parts AS (
      SELECT 'checkpoint', c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id,
             NULL, 0, '', c.body
        FROM chosen c
      UNION ALL
      SELECT 'blob', b.thread_id, b.checkpoint_ns, NULL, b.blob_id, NULL, 0, '', b.body
        FROM chosen c
       CROSS JOIN unnest(c.blobs) AS r (blob_id)
        JOIN dataplane.checkpoint_blob b
          ON b.org_id = tenant.o AND b.thread_id = c.thread_id
         AND b.checkpoint_ns = c.checkpoint_ns AND b.blob_id = r.blob_id
      UNION ALL
      SELECT 'write', w.thread_id, w.checkpoint_ns, w.checkpoint_id, w.channel, w.task_id, w.idx,
             w.task_path, w.body
        FROM chosen c
        JOIN dataplane.checkpoint_write w
          ON w.org_id = tenant.o AND w.thread_id = c.thread_id
         AND w.checkpoint_ns = c.checkpoint_ns AND w.checkpoint_id = c.checkpoint_id
    )
    SELECT p.kind, p.thread_id, p.checkpoint_ns, p.checkpoint_id, p.name, p.task_id, p.idx,
           p.task_path,
           CASE WHEN sum(octet_length(p.body)) OVER (PARTITION BY p.thread_id, p.checkpoint_ns)
                     <= most_bytes THEN p.body END
      FROM parts p (kind, thread_id, checkpoint_ns, checkpoint_id, name, task_id, idx, task_path,
                    body);
  END LOOP;
  PERFORM set_config('app.current_tenant', '', true), set_config('app.tenant_proof', '', true);
END
$$;
SELECT tp.allow_execute('dataplane.latest_checkpoints(json, bigint)'::regprocedure, 'app',
                        'reads as each of several tenants in turn, under row-level security');
