-- +goose Up
-- Rows of the ledger that belong to an instance. Every statement may be run again, also
-- while instances of a version that knew 0002 only are at work: they leave call alone. It waits for
-- transactions of the application that have accepted an event, and accepting waits for it: let none be open for long.

-- The first 64 bits of the IDs that the owner of this row has given to the latest events which it accepted with it;
-- NULL: the row is everybody's. An instance accepts events in one statement, which finds the row with
-- the call before and leaves it with a new one: so the row says which calls were committed, and when it is
-- set to NULL the one that is still on its way finds nothing and accepts nothing.
ALTER TABLE goutbox_ledger ADD COLUMN IF NOT EXISTS call bigint;

INSERT INTO goutbox_migrations (version) VALUES (3) ON CONFLICT DO NOTHING;
