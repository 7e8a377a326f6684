-- Requests with an Idempotency-Key: claimed before anything is done, so that each is done once at
-- most, and kept with their answer, so that the same request again gets the same answer.

CREATE TABLE dataplane.request (
  org_id          text NOT NULL,
  principal       text NOT NULL,  -- user:<sub> or key:<key_id>: callers do not meet in one key
  route           text NOT NULL,  -- path, percent-encoded
  idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
  fingerprint     bytea NOT NULL CHECK (octet_length(fingerprint) = 32),  -- SHA-256 of what was sent
  run_id          uuid NOT NULL,  -- whose the claim is; also the run of its calls in the ledger
  status          text NOT NULL CHECK (status IN ('in_flight', 'done', 'interrupted')),
  response        bytea CHECK (response IS NULL OR status = 'done'),  -- NULL of a done one: too large
  lease_until     timestamptz NOT NULL,  -- a process that lives renews it
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at      timestamptz NOT NULL,
  PRIMARY KEY (org_id, principal, route, idempotency_key)
);
-- Ciphertext does not compress: no time is spent on trying.
ALTER TABLE dataplane.request ALTER COLUMN response SET STORAGE EXTERNAL;
CREATE INDEX request_expiring ON dataplane.request (expires_at);

-- App reads answers; only the functions write.
SELECT tp.protect('dataplane.request', 'SELECT');
SELECT tp.allow_system('dataplane.request', 'SELECT, DELETE');

-- Claims requests of many orgs at once, and answers in their order, with the run of whose claim stands:
--   claimed      by this run: it, and nobody else, may go on
--   in_flight    by another run, whose process lives
--   interrupted  by a run whose process died, or gave up: what it did, its ledger says
--   done         its answer is there
--   not_kept     done, but its answer was too large to be kept
--   other_body   the key came with another request before
--   forged       the proof is not of this org, or has expired
-- Rows come in one order of their keys, so that two batches never wait for each other in a circle.
CREATE FUNCTION dataplane.claim_requests(
  org_ids text[], proofs text[], principals text[], routes text[], keys text[],
  fingerprints bytea[], run_ids uuid[], lease_seconds float8, keep_seconds float8
) RETURNS TABLE (status text, run_id uuid)
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  standing   dataplane.request;
  new        record;
  proven     boolean;
  proven_org text;
  proof      text;
BEGIN
  FOR new IN
    SELECT * FROM unnest(
      org_ids, proofs, principals, routes, keys, fingerprints, run_ids
    ) WITH ORDINALITY AS r (
      org_id, proof, principal, route, key, fingerprint, run_id, at) ORDER BY r.at
  LOOP
    -- Rows of one org come with one proof, mostly: it is checked once.
    IF (new.org_id, new.proof) IS DISTINCT FROM (proven_org, proof) THEN
      proven := tp.verify_proof(new.org_id, new.proof);
      proven_org := new.org_id;
      proof := new.proof;
    END IF;
    IF proven IS NOT TRUE THEN
      RETURN QUERY SELECT 'forged', new.run_id;
      CONTINUE;
    END IF;

    -- What is past its time is as if it were not there, unless its run still goes on. A row that
    -- stands is locked by this, so that it is there for the next statement.
    INSERT INTO dataplane.request AS r (
      org_id, principal, route, idempotency_key, fingerprint, run_id, status, lease_until,
      expires_at)
    VALUES (new.org_id, new.principal, new.route, new.key, new.fingerprint, new.run_id, 'in_flight',
            clock_timestamp() + make_interval(secs => lease_seconds),
            clock_timestamp() + make_interval(secs => keep_seconds))
        ON CONFLICT (org_id, principal, route, idempotency_key) DO UPDATE
       SET fingerprint = EXCLUDED.fingerprint, run_id = EXCLUDED.run_id, status = 'in_flight',
           response = NULL, lease_until = EXCLUDED.lease_until, created_at = clock_timestamp(),
           expires_at = EXCLUDED.expires_at
     WHERE r.expires_at <= clock_timestamp()
       AND (r.status <> 'in_flight' OR r.lease_until <= clock_timestamp());
    IF FOUND THEN
      RETURN QUERY SELECT 'claimed', new.run_id;
      CONTINUE;
    END IF;

    SELECT * INTO STRICT standing FROM dataplane.request r
     WHERE r.org_id = new.org_id AND r.principal = new.principal AND r.route = new.route
       AND r.idempotency_key = new.key;
    RETURN QUERY SELECT CASE
        -- The claim was sent again, since a lost connection left it open whether it was made.
        WHEN standing.run_id = new.run_id THEN 'claimed'
        WHEN standing.fingerprint <> new.fingerprint THEN 'other_body'
        WHEN standing.status = 'in_flight' AND standing.lease_until <= clock_timestamp()
          THEN 'interrupted'
        WHEN standing.status = 'done' AND standing.response IS NULL THEN 'not_kept'
        ELSE standing.status
      END, standing.run_id;
  END LOOP;
END
$$;

-- Moves claimed requests on, each for the run that claimed it, and answers in their order:
--   in_flight    its lease is renewed
--   interrupted  it was given up after something may have been done
--   done         with its answer, or with NULL where that is too large to be kept
--   released     nothing was done: the key is free again
-- The answer is ok, gone (it is done already, or another run's) or forged.
CREATE FUNCTION dataplane.advance_requests(
  org_ids text[], proofs text[], principals text[], routes text[], keys text[], run_ids uuid[],
  statuses text[], responses bytea[], lease_seconds float8
) RETURNS text[]
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  new        record;
  proven     boolean;
  proven_org text;
  proof      text;
  answers    text[] := '{}';
BEGIN
  FOR new IN
    SELECT * FROM unnest(
      org_ids, proofs, principals, routes, keys, run_ids, statuses, responses
    ) WITH ORDINALITY AS r (
      org_id, proof, principal, route, key, run_id, status, response, at) ORDER BY r.at
  LOOP
    IF (new.org_id, new.proof) IS DISTINCT FROM (proven_org, proof) THEN
      proven := tp.verify_proof(new.org_id, new.proof);
      proven_org := new.org_id;
      proof := new.proof;
    END IF;
    IF proven IS NOT TRUE THEN
      answers := answers || 'forged'::text;
      CONTINUE;
    END IF;
    IF new.status = 'released' THEN
      DELETE FROM dataplane.request r
       WHERE r.org_id = new.org_id AND r.principal = new.principal AND r.route = new.route
         AND r.idempotency_key = new.key AND r.run_id = new.run_id AND r.status <> 'done';
    ELSE
      UPDATE dataplane.request r
         SET status = new.status, response = new.response,
             lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
       WHERE r.org_id = new.org_id AND r.principal = new.principal AND r.route = new.route
         AND r.idempotency_key = new.key AND r.run_id = new.run_id AND r.status <> 'done';
    END IF;
    answers := answers || CASE WHEN FOUND THEN 'ok' ELSE 'gone' END;
  END LOOP;
  RETURN answers;
END
$$;

SELECT tp.allow_execute(p.oid::regprocedure, 'app',
                        'group commit across tenants: each row carries the proof of its own')
  FROM pg_proc p
 WHERE p.pronamespace = 'dataplane'::regnamespace
   AND p.proname IN ('claim_requests', 'advance_requests');
