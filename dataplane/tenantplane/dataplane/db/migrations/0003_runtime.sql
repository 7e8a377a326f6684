-- Threads, their checkpoints and notes: the state of a tenant's agents, all of it under RLS.

-- A conversation. The stored id is `{org_id}::{uuid}`; outside, the bare uuid alone is seen.
CREATE TABLE dataplane.thread (
  org_id     text NOT NULL,
  thread_id  text COLLATE "C" NOT NULL,
  user_id    text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  -- One run at a time writes to a thread: two would fork its state. A dead run's claim ages out.
  busy_run   uuid,
  busy_until timestamptz,
  PRIMARY KEY (org_id, thread_id),
  CHECK (starts_with(thread_id, org_id || '::')),
  CHECK ((busy_run IS NULL) = (busy_until IS NULL))
);

-- One state of a thread's graph. No foreign key from writes: LangGraph may commit a task's writes
-- before the checkpoint that they belong to. Ids are time-ordered text: compared byte by byte.
CREATE TABLE dataplane.checkpoint (
  org_id               text NOT NULL,
  thread_id            text COLLATE "C" NOT NULL,
  checkpoint_ns        text COLLATE "C" NOT NULL,
  checkpoint_id        text COLLATE "C" NOT NULL,
  parent_checkpoint_id text COLLATE "C",
  encoding             text NOT NULL,
  body                 bytea NOT NULL,
  metadata             jsonb NOT NULL,
  created_at           timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, thread_id, checkpoint_ns, checkpoint_id),
  CHECK (starts_with(thread_id, org_id || '::'))
);

-- What a task wrote within a step, so that a resumed step does not run it again.
CREATE TABLE dataplane.checkpoint_write (
  org_id        text NOT NULL,
  thread_id     text COLLATE "C" NOT NULL,
  checkpoint_ns text COLLATE "C" NOT NULL,
  checkpoint_id text COLLATE "C" NOT NULL,
  task_id       text COLLATE "C" NOT NULL,
  idx           integer NOT NULL,
  task_path     text COLLATE "C" NOT NULL,
  channel       text NOT NULL,
  encoding      text NOT NULL,
  body          bytea NOT NULL,
  PRIMARY KEY (org_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx),
  CHECK (starts_with(thread_id, org_id || '::'))
);

-- Notes that a user's agent keeps for that user.
CREATE TABLE dataplane.note (
  org_id     text NOT NULL,
  user_id    text NOT NULL,
  note_id    uuid NOT NULL,
  thread_id  text NOT NULL,
  body       text NOT NULL CHECK (length(body) BETWEEN 1 AND 4000),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, user_id, note_id),
  CHECK (starts_with(thread_id, org_id || '::'))
);

SELECT tp.protect('dataplane.thread');
SELECT tp.protect('dataplane.checkpoint');
SELECT tp.protect('dataplane.checkpoint_write');
SELECT tp.protect('dataplane.note', 'SELECT, INSERT');
