-- The ledger: what was about to be called, what came of it, and the record that proves it.

CREATE SCHEMA dataplane;
DO $$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA dataplane TO %I, %I, %I', tp.role_name('app'),
                 tp.role_name('system'), tp.role_name('query'));
END
$$;

-- The epoch that fences Valkey: what was admitted under an older one is never committed. It starts
-- at the clock, so that a Valkey which served another database before does not know it.
CREATE TABLE dataplane.ledger_epoch (
  only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch     bigint NOT NULL CHECK (epoch BETWEEN 1 AND 9000000000000000),
  raised_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO dataplane.ledger_epoch (epoch)
VALUES (extract(epoch FROM clock_timestamp())::bigint);
SELECT tp.share('dataplane.ledger_epoch', 'system', 'SELECT, UPDATE',
                'one epoch for all orgs of the plane: it fences the one Valkey that they share');

-- Up to where each stream was acknowledged by the control plane.
CREATE TABLE dataplane.ship_cursor (
  stream     text PRIMARY KEY CHECK (stream IN ('usage', 'audit')),
  xid        xid8 NOT NULL,
  id         uuid NOT NULL,
  shipped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO dataplane.ship_cursor (stream, xid, id)
SELECT stream, '0'::xid8, '00000000-0000-0000-0000-000000000000'
  FROM unnest('{usage,audit}'::text[]) stream;
SELECT tp.share('dataplane.ship_cursor', 'system', 'SELECT, UPDATE',
                'position of the shipper, which reads all orgs in order of their transactions');

-- The org's data key, wrapped by the key provider. Deleting it erases all content of the org.
CREATE TABLE dataplane.org_key (
  org_id      text PRIMARY KEY,
  wrapped_key bytea NOT NULL,
  made_at     timestamptz NOT NULL DEFAULT now()
);
SELECT tp.protect('dataplane.org_key', 'SELECT, INSERT');

-- A call that was about to be made: committed before it, so that no call is ever forgotten.
-- `stage` and `cost_nanousd` are those of its latest outcome, kept here because both are decided
-- under this row's lock.
CREATE TABLE dataplane.intent (
  org_id             text NOT NULL,
  intent_id          uuid NOT NULL,  -- UUIDv7 on this database's clock; also the id of its hold
  root_org_id        text NOT NULL,
  run_id             uuid NOT NULL,
  call_no            integer NOT NULL CHECK (call_no >= 0),
  thread_id          text,
  user_id            text NOT NULL,
  key_id             text,
  kind               text NOT NULL CHECK (kind IN ('model', 'tool')),
  resource           text NOT NULL,
  hold_nanousd       bigint NOT NULL CHECK (hold_nanousd BETWEEN 0 AND 9000000000000000),
  price_book_version integer NOT NULL,
  idempotency_key    text,
  epoch              bigint NOT NULL,
  slots              jsonb NOT NULL,  -- accounts that the hold was put on: [{kind, id, period, …}]
  request_ciphertext bytea NOT NULL,  -- for the record of a call whose process died
  made_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
  deadline_at        timestamptz NOT NULL,  -- the call is over for sure
  stage              text CHECK (stage IN ('estimated', 'actual')),
  cost_nanousd       bigint NOT NULL DEFAULT 0,
  UNIQUE (org_id, run_id, call_no)
);
-- After the other one: while the table has no statistics yet both cost the same, and the planner
-- takes the younger index; by the other one it would read all calls of the org for each look-up.
ALTER TABLE dataplane.intent ADD PRIMARY KEY (org_id, intent_id);
-- The installer reads a root's recent intents, the sweeper its ids, whichever org of the tree.
CREATE INDEX intent_of_root ON dataplane.intent (root_org_id, intent_id);
-- Calls that may still change, of all orgs: few at any time.
CREATE INDEX intent_unfinished ON dataplane.intent (deadline_at) WHERE stage IS NULL;
CREATE INDEX intent_estimated ON dataplane.intent (root_org_id) WHERE stage = 'estimated';

-- What came of a call; the sum of `delta_nanousd` is the ledger. Rows are never changed: an actual
-- outcome after an estimated one carries the difference.
CREATE TABLE dataplane.outcome (
  org_id          text NOT NULL,
  intent_id       uuid NOT NULL,
  stage           text NOT NULL CHECK (stage IN ('estimated', 'actual')),
  event_id        uuid NOT NULL,
  record_id       uuid NOT NULL,
  input_tokens    bigint NOT NULL CHECK (input_tokens >= 0),
  output_tokens   bigint NOT NULL CHECK (output_tokens >= 0),
  cost_nanousd    bigint NOT NULL CHECK (cost_nanousd BETWEEN 0 AND 9000000000000000),
  delta_nanousd   bigint NOT NULL,
  provider_excess boolean NOT NULL,
  occurred_at     timestamptz NOT NULL,
  xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (org_id, intent_id, stage),
  UNIQUE (org_id, event_id),
  FOREIGN KEY (org_id, intent_id) REFERENCES dataplane.intent (org_id, intent_id)
);
CREATE INDEX outcome_to_ship ON dataplane.outcome (xid, event_id);

-- Evidence: content under the org's data key, and the entry that commits to it (core/audit).
CREATE TABLE dataplane.audit_record (
  org_id      text NOT NULL,
  record_id   uuid NOT NULL,
  run_id      uuid NOT NULL,
  intent_id   uuid NOT NULL,
  ciphertext  bytea NOT NULL,
  entry       bytea NOT NULL CHECK (octet_length(entry) = 32),
  occurred_at timestamptz NOT NULL,
  xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (org_id, record_id),
  FOREIGN KEY (org_id, intent_id) REFERENCES dataplane.intent (org_id, intent_id)
);
CREATE INDEX audit_record_of_run ON dataplane.audit_record (org_id, run_id, record_id);
CREATE INDEX audit_record_to_ship ON dataplane.audit_record (xid, record_id);

-- App reads its own tenant's rows; only the append functions write.
SELECT tp.protect('dataplane.intent', 'SELECT');
SELECT tp.protect('dataplane.outcome', 'SELECT');
SELECT tp.protect('dataplane.audit_record', 'SELECT');
SELECT tp.allow_system('dataplane.intent', 'SELECT');
SELECT tp.allow_system('dataplane.outcome', 'SELECT');
SELECT tp.allow_system('dataplane.audit_record', 'SELECT');

-- Commits intents of many orgs at once, each with its tenant's proof, and answers in their order:
--   ok         committed, or committed before with the same id and now at least this large
--   forged     the proof is not of this org, or has expired
--   epoch      admitted under another epoch: ask Valkey again
--   late       the hold may have been given up meanwhile: ask again with a new id
--   duplicate  this call number of the run belongs to another intent
--   closed     the call has an outcome already
--
-- The order of the first two statements is the fence. A rebuild raises the epoch, then takes a
-- transaction id, then waits until all older ids are gone, then reads intents. With its id taken
-- first, a commit here is either waited for, or reads the raised epoch in its second statement,
-- which has a snapshot of its own in READ COMMITTED.
CREATE FUNCTION dataplane.append_intents(
  org_ids text[], proofs text[], intent_ids uuid[], root_org_ids text[], run_ids uuid[],
  call_nos integer[], thread_ids text[], user_ids text[], key_ids text[], kinds text[],
  resources text[], holds bigint[], price_books integer[], idempotency_keys text[],
  epochs bigint[], slot_lists text[], requests bytea[], commit_bys timestamptz[],
  deadlines timestamptz[]
) RETURNS text[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  valid_epoch bigint;
  known       dataplane.intent;
  proven      boolean;
  proven_org  text;
  proof       text;
  new         record;
  statuses    text[] := '{}';
BEGIN
  PERFORM pg_current_xact_id();
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE invalid_transaction_state USING
      MESSAGE = 'intents are appended in READ COMMITTED: an older snapshot may hold an old epoch';
  END IF;
  SELECT e.epoch INTO STRICT valid_epoch FROM dataplane.ledger_epoch e;

  FOR new IN
    SELECT * FROM unnest(
      org_ids, proofs, intent_ids, root_org_ids, run_ids, call_nos, thread_ids, user_ids, key_ids,
      kinds, resources, holds, price_books, idempotency_keys, epochs, slot_lists, requests,
      commit_bys, deadlines
    ) WITH ORDINALITY AS r (
      org_id, proof, intent_id, root_org_id, run_id, call_no, thread_id, user_id, key_id,
      kind, resource, hold, price_book, idempotency_key, epoch, slots, request,
      commit_by, deadline, at) ORDER BY r.at
  LOOP
    -- Rows of one org come with one proof, mostly: it is checked once.
    IF (new.org_id, new.proof) IS DISTINCT FROM (proven_org, proof) THEN
      proven := tp.verify_proof(new.org_id, new.proof);
      proven_org := new.org_id;
      proof := new.proof;
    END IF;
    IF proven IS NOT TRUE THEN
      statuses := statuses || 'forged'::text;
      CONTINUE;
    END IF;
    IF new.epoch <> valid_epoch THEN
      statuses := statuses || 'epoch'::text;
      CONTINUE;
    END IF;

    INSERT INTO dataplane.intent (
      org_id, intent_id, root_org_id, run_id, call_no, thread_id, user_id, key_id, kind, resource,
      hold_nanousd, price_book_version, idempotency_key, epoch, slots, request_ciphertext,
      deadline_at)
    SELECT new.org_id, new.intent_id, new.root_org_id, new.run_id, new.call_no, new.thread_id,
           new.user_id, new.key_id, new.kind, new.resource, new.hold, new.price_book,
           new.idempotency_key, new.epoch, new.slots::jsonb, new.request, new.deadline
     WHERE clock_timestamp() < new.commit_by
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
      statuses := statuses || 'ok'::text;
      CONTINUE;
    END IF;

    SELECT * INTO known FROM dataplane.intent i
     WHERE i.org_id = new.org_id AND i.intent_id = new.intent_id FOR UPDATE;
    IF FOUND AND (known.run_id, known.call_no) = (new.run_id, new.call_no) THEN
      UPDATE dataplane.intent i
         SET hold_nanousd = greatest(i.hold_nanousd, new.hold),
             deadline_at = greatest(i.deadline_at, new.deadline)
       WHERE i.org_id = new.org_id AND i.intent_id = new.intent_id AND i.stage IS NULL;
      statuses := statuses || CASE WHEN known.stage IS NULL THEN 'ok' ELSE 'closed' END;
    ELSIF FOUND OR EXISTS (SELECT FROM dataplane.intent i
                            WHERE i.org_id = new.org_id AND i.run_id = new.run_id
                              AND i.call_no = new.call_no) THEN
      statuses := statuses || 'duplicate'::text;
    ELSE
      statuses := statuses || 'late'::text;
    END IF;
  END LOOP;
  RETURN statuses;
END
$$;

-- Commits outcomes, each with its audit record, and answers in their order: what stands now
-- (event, record, cost), and
--   ok         committed
--   duplicate  this very event was committed before
--   final      an outcome of this stage, or a later one, stands already: nothing was changed
--   unknown    there is no such intent
--   forged     the proof is not of this org, or has expired
CREATE FUNCTION dataplane.append_outcomes(
  org_ids text[], proofs text[], intent_ids uuid[], stages text[], event_ids uuid[],
  record_ids uuid[], input_token_counts bigint[], output_token_counts bigint[], costs bigint[],
  occurred_ats timestamptz[], ciphertexts bytea[], entries bytea[]
) RETURNS TABLE (status text, event_id uuid, record_id uuid, cost_nanousd bigint)
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  call       dataplane.intent;
  standing   dataplane.outcome;
  new        record;
  proven     boolean;
  proven_org text;
  proof      text;
BEGIN
  FOR new IN
    SELECT * FROM unnest(
      org_ids, proofs, intent_ids, stages, event_ids, record_ids, input_token_counts,
      output_token_counts, costs, occurred_ats, ciphertexts, entries
    ) WITH ORDINALITY AS r (
      org_id, proof, intent_id, stage, event_id, record_id, input_tokens, output_tokens, cost,
      occurred_at, ciphertext, entry, at) ORDER BY r.at
  LOOP
    -- Rows of one org come with one proof, mostly: it is checked once.
    IF (new.org_id, new.proof) IS DISTINCT FROM (proven_org, proof) THEN
      proven := tp.verify_proof(new.org_id, new.proof);
      proven_org := new.org_id;
      proof := new.proof;
    END IF;
    IF proven IS NOT TRUE THEN
      RETURN QUERY SELECT 'forged', new.event_id, new.record_id, new.cost;
      CONTINUE;
    END IF;
    SELECT * INTO call FROM dataplane.intent i
     WHERE i.org_id = new.org_id AND i.intent_id = new.intent_id FOR UPDATE;
    IF NOT FOUND THEN
      RETURN QUERY SELECT 'unknown', new.event_id, new.record_id, new.cost;
      CONTINUE;
    END IF;
    IF call.stage = 'actual' OR call.stage = new.stage THEN
      SELECT * INTO STRICT standing FROM dataplane.outcome o
       WHERE o.org_id = new.org_id AND o.intent_id = new.intent_id AND o.stage = call.stage;
      RETURN QUERY SELECT CASE WHEN standing.event_id = new.event_id THEN 'duplicate' ELSE 'final' END,
                          standing.event_id, standing.record_id, standing.cost_nanousd;
      CONTINUE;
    END IF;

    INSERT INTO dataplane.outcome (
      org_id, intent_id, stage, event_id, record_id, input_tokens, output_tokens, cost_nanousd,
      delta_nanousd, provider_excess, occurred_at)
    VALUES (new.org_id, new.intent_id, new.stage, new.event_id, new.record_id, new.input_tokens,
            new.output_tokens, new.cost, new.cost - call.cost_nanousd,
            new.cost > call.hold_nanousd, new.occurred_at);
    INSERT INTO dataplane.audit_record (
      org_id, record_id, run_id, intent_id, ciphertext, entry, occurred_at)
    VALUES (new.org_id, new.record_id, call.run_id, new.intent_id, new.ciphertext, new.entry,
            new.occurred_at);
    UPDATE dataplane.intent i SET stage = new.stage, cost_nanousd = new.cost
     WHERE i.org_id = new.org_id AND i.intent_id = new.intent_id;
    RETURN QUERY SELECT 'ok', new.event_id, new.record_id, new.cost;
  END LOOP;
END
$$;

SELECT tp.allow_execute(p.oid::regprocedure, 'app',
                        'group commit across tenants: each row carries the proof of its own')
  FROM pg_proc p
 WHERE p.pronamespace = 'dataplane'::regnamespace
   AND p.proname IN ('append_intents', 'append_outcomes');
