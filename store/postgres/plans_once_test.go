package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/stretchr/testify/require"
)

// Whatever is in an event, the server plans once how to accept it: to plan it takes twice as long as to
// do it. What accepts lean events it plans a few times, to see that one plan is as good.
func TestPlans_CreateIsPlannedOnce(t *testing.T) {
	for k, expected := range map[string][]int{"": {15, 5}, "k": {20, 0}} {
		t.Run(fmt.Sprintf("key %q", k), func(t *testing.T) {
			s, db, table := newStore(t, "pgx")
			db.SetMaxOpenConns(1) // whose plans are looked at
			for i := range 20 {
				require.NoError(t, s.Create(t.Context(), []outbox.Task{event(fmt.Sprint("name ", i), key(k))}))
			}
			var generic, custom int
			err := db.QueryRow(`SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements WHERE statement LIKE '%INSERT INTO%' || $1 || '_tasks%'`, table).Scan(&generic, &custom)
			if err != nil && strings.Contains(err.Error(), "generic_plans") {
				t.Skip("a server before PostgreSQL 14 does not say")
			}
			require.NoError(t, err)
			require.Equal(t, expected, []int{generic, custom}, "plans for any parameters, and for those of one event")
		})
	}
}
