package postgres_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/mem"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/goutbox/goutbox/store/storetest"
	"github.com/stretchr/testify/require"
)

// harness opens stores whose tables have names of their own.
type harness struct {
	db     *sql.DB
	opts   []postgres.Option
	mu     sync.Mutex // guards tables
	tables map[outbox.Store]string
}

func newHarness(t *testing.T, driver string, opts ...postgres.Option) *harness {
	return &harness{db: openDB(t, driver), opts: opts, tables: map[outbox.Store]string{}}
}

func (h *harness) open(t *testing.T, table string) outbox.Store {
	t.Helper()
	s := open(t, h.db, table, h.opts...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tables[s] = table
	return s
}

func (h *harness) law() storetest.Harness {
	return storetest.Harness{
		Open: func(t *testing.T) outbox.Store { return h.open(t, newTable(t, h.db)) },
		Reopen: func(t *testing.T, s outbox.Store) outbox.Store {
			t.Helper()
			require.NoError(t, s.Close())
			h.mu.Lock()
			table := h.tables[s]
			h.mu.Unlock()
			return h.open(t, table)
		},
		Tx: func(t *testing.T, s outbox.Store, f func(ctx context.Context)) {
			t.Helper()
			tx, err := h.db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer tx.Rollback() // nothing after a commit
			f(postgres.WithTx(t.Context(), tx))
			require.NoError(t, tx.Commit())
		},
		Audit: func(t *testing.T, s outbox.Store) {
			t.Helper()
			require.NoError(t, s.(*postgres.Store).Audit(context.WithoutCancel(t.Context())))
		},
	}
}

func TestStore_Conformance(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, newHarness(t, driver).law())
		})
	}
}

// The store and the readable specification do the same random things.
func TestStore_Agree(t *testing.T) {
	oracle := storetest.Harness{Open: func(*testing.T) outbox.Store { return mem.New() }}
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			for seed := range uint64(2) {
				storetest.Agree(t, seed, 150, oracle, newHarness(t, driver).law())
			}
		})
	}
}
