-- +goose Up
-- IDs up to the year 10889 (outbox.MaxIDTime). Every statement may be run again, also
-- while instances of a version that knew 0001 only are at work.

-- The first 64 bits of the latest ID, as before. Those of the years after 6428 are negative
-- here: behind the highest number comes the lowest, so that the bits count on.
ALTER SEQUENCE goutbox_ids MINVALUE -9223372036854775808 MAXVALUE 9223372036854775807 CYCLE;

-- goutbox_next returns the first 64 bits of the next ID, above the bits above; 0 is below all, and so is
-- -1, by which the version before asked. See 0001 for the rest. Whatever is compared has its
-- first bit turned, and with it the order that IDs have.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION goutbox_next(above bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	turn CONSTANT bigint := -9223372036854775808;
	low  bigint := (CASE above WHEN -1 THEN 0 ELSE above END) # turn;
	v    bigint := nextval('goutbox_ids') # turn;
	ms   bigint := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
	wall bigint := (least(greatest(ms, 0), 281474975662079) << 16) # turn;
	lock bigint := hashtextextended('goutbox_ids', 0);
BEGIN
	IF v <= low THEN
		PERFORM pg_advisory_xact_lock(lock);
		v := nextval('goutbox_ids') # turn;
		IF v <= low THEN
			PERFORM setval('goutbox_ids', (low + 65536) # turn);
			v := nextval('goutbox_ids') # turn;
		END IF;
	ELSIF v + 65536000 < wall AND pg_try_advisory_xact_lock(lock) THEN
		v := nextval('goutbox_ids') # turn;
		IF v + 65536000 < wall THEN
			PERFORM setval('goutbox_ids', wall # turn);
			v := nextval('goutbox_ids') # turn;
		END IF;
	END IF;
	RETURN v # turn;
END $$;
-- +goose StatementEnd

INSERT INTO goutbox_migrations (version) VALUES (2) ON CONFLICT DO NOTHING;
