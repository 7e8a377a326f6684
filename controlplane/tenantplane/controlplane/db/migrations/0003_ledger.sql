-- What planes report: usage events and commitments to audit records, each once, never content.

-- No key to org: money and commitments outlive a purge, persons do not (their columns are erased).
-- `content_sha256` is of the event as it came, so that a replay is told from a forgery for ever.
CREATE TABLE controlplane.usage_event (
  org_id             text NOT NULL,
  event_id           uuid NOT NULL,
  root_org_id        text NOT NULL,
  plane              text NOT NULL REFERENCES controlplane.plane,
  user_id            text,
  key_id             text,
  run_id             uuid NOT NULL,
  call_no            bigint NOT NULL,
  thread_id          text,
  intent_id          uuid NOT NULL,
  stage              text NOT NULL CHECK (stage IN ('estimated', 'actual')),
  kind               text NOT NULL CHECK (kind IN ('model', 'tool')),
  resource           text NOT NULL,
  input_tokens       bigint NOT NULL CHECK (input_tokens >= 0),
  output_tokens      bigint NOT NULL CHECK (output_tokens >= 0),
  cost_nanousd       bigint NOT NULL CHECK (cost_nanousd >= 0),
  delta_nanousd      bigint NOT NULL,
  price_book_version bigint NOT NULL,
  provider_excess    boolean NOT NULL,
  occurred_at        timestamptz NOT NULL,
  content_sha256     bytea NOT NULL,
  received_at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, event_id)
);
CREATE INDEX usage_event_by_time ON controlplane.usage_event (org_id, occurred_at);

CREATE TABLE controlplane.audit_commitment (
  org_id      text NOT NULL,
  record_id   uuid NOT NULL,
  plane       text NOT NULL REFERENCES controlplane.plane,
  run_id      uuid NOT NULL,
  entry       bytea NOT NULL CHECK (octet_length(entry) = 32),
  occurred_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, record_id)
);

SELECT tp.protect('controlplane.usage_event', 'SELECT'),
       tp.protect('controlplane.audit_commitment', 'SELECT');
SELECT tp.allow_system('controlplane.usage_event', 'SELECT, INSERT, UPDATE'),
       tp.allow_system('controlplane.audit_commitment', 'SELECT, INSERT');
