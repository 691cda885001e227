-- +goose Up
-- The first schema. Every statement may be run again. Names begin with goutbox_; a
-- store with another name has them replaced. Needs PostgreSQL 13 or newer, no extension.

-- What waits (state 0), is in flight (1) or is dead (2). Texts are bytea, since an
-- event carries any bytes; goutbox_listing shows them as text.
CREATE TABLE IF NOT EXISTS goutbox_tasks (
	id           uuid PRIMARY KEY,  -- the ULID
	name         bytea NOT NULL,
	key          bytea,             -- ordering key; NULL: none
	headers      bytea,
	content_type bytea NOT NULL,
	payload      bytea NOT NULL,
	created_at   timestamptz NOT NULL,
	state        smallint NOT NULL,
	head         boolean NOT NULL,  -- may be claimed: has no key, or is the one of its key that is next
	attempts     integer NOT NULL,
	max_attempts integer NOT NULL,
	due_at       timestamptz NOT NULL,
	held         timestamptz,       -- due_at of before a release: where it goes back to when its instance closes
	expires_at   timestamptz,
	unique_key   bytea,
	unique_for   bigint NOT NULL,   -- ns
	latest_key   bytea,
	replaced     boolean NOT NULL DEFAULT false, -- in flight, and a newer one of its latest_key is there
	priority     smallint NOT NULL,
	key_policy   smallint NOT NULL,
	failures     bytea,
	reason       bytea,             -- of a dead letter
	parks        boolean NOT NULL DEFAULT false, -- a dead letter that parks its key
	retry_base   bigint NOT NULL,   -- ns
	retry_max    bigint NOT NULL,   -- ns
	token        bigint NOT NULL DEFAULT 0, -- of the latest claim, the fence; 0: none is worth anything
	lease_end    timestamptz,       -- in flight until
	owner        bigint             -- the instance that claimed it last
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Claims: by class, then due time; and the same by name, for claims with a Match.
CREATE INDEX IF NOT EXISTS goutbox_ix_due ON goutbox_tasks (priority, due_at, id) WHERE state = 0 AND head;
CREATE INDEX IF NOT EXISTS goutbox_ix_names ON goutbox_tasks (name, priority, due_at, id) WHERE state = 0 AND head;
-- P4, by the database itself: of one key at most one is waiting at the head or in flight.
CREATE UNIQUE INDEX IF NOT EXISTS goutbox_ix_heads ON goutbox_tasks (key) WHERE head AND key IS NOT NULL;
CREATE INDEX IF NOT EXISTS goutbox_ix_keys ON goutbox_tasks (key, state, id) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS goutbox_ix_parks ON goutbox_tasks (key, id) WHERE parks;
CREATE UNIQUE INDEX IF NOT EXISTS goutbox_ix_unique ON goutbox_tasks (unique_key) WHERE unique_key IS NOT NULL AND state < 2;
CREATE INDEX IF NOT EXISTS goutbox_ix_latest ON goutbox_tasks (latest_key) WHERE latest_key IS NOT NULL AND state < 2;
CREATE INDEX IF NOT EXISTS goutbox_ix_leases ON goutbox_tasks (lease_end) WHERE state = 1;
CREATE INDEX IF NOT EXISTS goutbox_ix_held ON goutbox_tasks (owner) WHERE held IS NOT NULL;
CREATE INDEX IF NOT EXISTS goutbox_ix_expires ON goutbox_tasks (expires_at) WHERE state = 0 AND expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS goutbox_ix_waiting ON goutbox_tasks (id) WHERE state = 0;
CREATE INDEX IF NOT EXISTS goutbox_ix_dead ON goutbox_tasks (id) WHERE state = 2;

-- The counters of P5, as sums over all rows. Each transaction adds to a row that nobody
-- else has locked, or makes a new one, so that writers never wait for each other.
CREATE TABLE IF NOT EXISTS goutbox_ledger (
	id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	accepted  bigint NOT NULL,
	delivered bigint NOT NULL,
	requeued  bigint NOT NULL,
	expired   bigint NOT NULL,
	coalesced bigint NOT NULL,
	quota     bigint NOT NULL,
	deleted   bigint NOT NULL,
	high      bigint NOT NULL, -- waiting, by class
	normal    bigint NOT NULL,
	low       bigint NOT NULL,
	in_flight bigint NOT NULL,
	dead      bigint NOT NULL
) WITH (fillfactor = 50);

-- What the next sweep is to look at: keys (kind 0) whose head may have to be chosen, and
-- latest keys (kind 1) of which all but keep, up to upto, are replaced.
CREATE TABLE IF NOT EXISTS goutbox_marks (
	seq  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind smallint NOT NULL,
	key  bytea NOT NULL,
	keep uuid,
	upto uuid
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Unique keys that stay taken after a delivery.
CREATE TABLE IF NOT EXISTS goutbox_spent (
	unique_key bytea PRIMARY KEY,
	until      timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS goutbox_ix_spent ON goutbox_spent (until);

-- What was dropped and no gap has told of, and the latest gap, for each reason.
CREATE TABLE IF NOT EXISTS goutbox_gaps (
	reason   text PRIMARY KEY,
	count    bigint NOT NULL DEFAULT 0,
	first_id uuid,
	last_id  uuid,
	from_at  timestamptz,
	to_at    timestamptz,
	due_at   timestamptz,
	priority smallint,
	told     uuid
);
INSERT INTO goutbox_gaps (reason) VALUES ('quota'), ('expired') ON CONFLICT DO NOTHING;

-- Fencing tokens and numbers of instances.
CREATE SEQUENCE IF NOT EXISTS goutbox_tokens;

-- The first 64 bits of the latest ID: milliseconds, then 16 bits that count.
CREATE SEQUENCE IF NOT EXISTS goutbox_ids;

-- goutbox_next returns the first 64 bits of the next ID, above above. They rise with every
-- call, whatever the clock does and whoever calls (P4). The sequence alone sees to that; when it lags
-- behind the clock by a second, one of those who can have the lock sets it forward, by so
-- much that what others draw meanwhile stays below.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION goutbox_next(above bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v    bigint := nextval('goutbox_ids');
	wall bigint := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint << 16;
	lock bigint := hashtextextended('goutbox_ids', 0);
BEGIN
	IF v <= above THEN
		PERFORM pg_advisory_xact_lock(lock);
		v := nextval('goutbox_ids');
		IF v <= above THEN
			PERFORM setval('goutbox_ids', above + 65536);
			v := nextval('goutbox_ids');
		END IF;
	ELSIF v < wall - 65536000 AND pg_try_advisory_xact_lock(lock) THEN
		v := nextval('goutbox_ids');
		IF v < wall - 65536000 THEN
			PERFORM setval('goutbox_ids', wall);
			v := nextval('goutbox_ids');
		END IF;
	END IF;
	RETURN v;
END $$;
-- +goose StatementEnd

-- For human eyes.
CREATE OR REPLACE VIEW goutbox_listing AS
SELECT id, encode(name, 'escape') AS name, encode(key, 'escape') AS key,
	(ARRAY['waiting', 'in flight', 'dead'])[state + 1] AS state,
	attempts, max_attempts, created_at, due_at, lease_end, expires_at, encode(reason, 'escape') AS reason,
	octet_length(payload) AS payload_bytes, encode(content_type, 'escape') AS content_type
FROM goutbox_tasks;

CREATE TABLE IF NOT EXISTS goutbox_migrations (
	version    integer PRIMARY KEY,
	applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO goutbox_migrations (version) VALUES (1) ON CONFLICT DO NOTHING;
