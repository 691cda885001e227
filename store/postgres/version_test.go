package postgres_test

import (
	"encoding/binary"
	"io/fs"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/stretchr/testify/require"
)

// A schema of version 1 is brought up with what is in it, and its IDs rise on (P4), also for an
// instance of the version before that is still at work.
func TestOpen_VersionOne(t *testing.T) {
	each(t, func(t *testing.T, driver string) {
		db := openDB(t, driver)
		schema := freshTable()
		exec := func(text string, args ...any) {
			t.Helper()
			_, err := db.Exec(text, args...)
			require.NoError(t, err)
		}
		text, err := fs.ReadFile(postgres.MigrationsFS, "0001_goutbox.up.sql")
		require.NoError(t, err)
		exec("CREATE SCHEMA " + schema)
		t.Cleanup(func() { exec("DROP SCHEMA " + schema + " CASCADE") })
		exec("SET search_path = " + schema + "; " + string(text) + ";" +
			`INSERT INTO goutbox_tasks (id, name, content_type, payload, created_at, state, head, attempts, max_attempts, due_at, unique_for, priority, key_policy, retry_base, retry_max)
			SELECT (lpad(to_hex(goutbox_next(-1)), 16, '0') || '0000000000000000')::uuid, 'old', '', '', now(), 0, true, 0, 3, now(), 0, 0, 0, 0, 0;
			INSERT INTO goutbox_ledger (accepted, delivered, requeued, expired, coalesced, quota, deleted, high, normal, low, in_flight, dead)
			VALUES (1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0); RESET search_path`)

		s := open(t, db, defaultTable, postgres.WithSchema(schema))
		last := claim(t, s, 1, aWhile)[0].ID
		create := func(id outbox.ID) {
			t.Helper()
			tasks := []outbox.Task{event("new", func(task *outbox.Task) { task.ID = id })}
			require.NoError(t, s.Create(t.Context(), tasks))
			require.Positive(t, tasks[0].ID.Compare(last), "%s after %s", tasks[0].ID, last)
			last = tasks[0].ID
		}
		asBefore := func() { // the call of version 1
			t.Helper()
			var bits int64
			require.NoError(t, db.QueryRow("SELECT "+schema+".goutbox_next(-1)").Scan(&bits))
			require.Greater(t, uint64(bits), binary.BigEndian.Uint64(last[:8]))
			binary.BigEndian.PutUint64(last[:8], uint64(bits))
		}
		create(outbox.ID{})
		asBefore()
		var middle outbox.ID // of its 64 bits, as the server counts them, the next is the lowest
		for i := range middle {
			middle[i] = 0xff
		}
		middle[0] = 0x7f
		create(middle)
		for range 3 {
			create(outbox.ID{})
			asBefore()
		}
		require.NoError(t, s.Audit(t.Context()))
		require.NoError(t, s.Close())
	})
}
