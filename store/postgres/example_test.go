package postgres_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The example does what it says.
func TestExample_Orders(t *testing.T) {
	db := openDB(t, "pgx")
	t.Cleanup(func() {
		dropTables(t, db, "shop_outbox")
		_, err := db.Exec("DROP TABLE shop_orders")
		require.NoError(t, err)
	})
	cmd := exec.Command("go", "run", "./examples/orders")
	cmd.Env = append(os.Environ(), envDSN+"="+dsn(t))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, 60, strings.Count(string(out), "delivers order.created of customer"), "%s", out)
}
