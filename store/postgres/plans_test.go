package postgres_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/store/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
)

// fillSQL makes many tasks of all kinds as quickly as PostgreSQL can: each tenth is dead, each three-hundredth
// in flight; of those that wait a half is due in an hour, a third stands behind a head.
const fillSQL = `INSERT INTO %[1]s_tasks (id, name, key, content_type, payload, created_at, state, head, attempts,
	max_attempts, due_at, expires_at, unique_key, unique_for, latest_key, priority, key_policy, retry_base, retry_max, token, lease_end)
SELECT (lpad(to_hex(n), 16, '0') || lpad(to_hex(n), 16, '0'))::uuid, convert_to('name ' || n %% 100, 'UTF8'),
	CASE WHEN n %% 3 = 0 THEN convert_to('key ' || n / 3 %% 1000, 'UTF8') END, '', repeat('x', 200)::bytea, now(),
	CASE WHEN n %% 10 = 0 THEN 2 WHEN n %% 300 = 1 THEN 1 ELSE 0 END, n %% 10 > 0 AND n %% 3 > 0, 0, 3,
	now() + CASE WHEN n %% 2 = 0 THEN '1 hour' ELSE '-1 second' END::interval, CASE WHEN n %% 7 = 0 THEN now() + '1 day'::interval END,
	CASE WHEN n %% 11 = 0 THEN convert_to('u' || n, 'UTF8') END, 0, CASE WHEN n %% 13 = 0 THEN convert_to('l' || n, 'UTF8') END, n %% 3 - 1, 0, 0, 0, 0,
	CASE WHEN n %% 300 = 1 THEN now() + '1 hour'::interval END
FROM generate_series(1, %[2]d) n`

const fillLedgerSQL = `INSERT INTO %[1]s_ledger (accepted, delivered, requeued, expired, coalesced, quota, deleted, high, normal, low, in_flight, dead)
SELECT count(*), 0, 0, 0, 0, 0, 0, count(*) FILTER (WHERE state = 0 AND priority = 1), count(*) FILTER (WHERE state = 0 AND priority = 0),
	count(*) FILTER (WHERE state = 0 AND priority = -1), count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 2) FROM %[1]s_tasks`

const fillMarksSQL = `INSERT INTO %[1]s_marks (kind, key) SELECT DISTINCT 0, key FROM %[1]s_tasks WHERE key IS NOT NULL`

// planned is a store behind a connection on which the server explains all that it does.
type planned struct {
	s     *postgres.Store
	table string
	mu    sync.Mutex // guards plans
	plans []string
}

func newPlanned(t *testing.T, n int, analyze bool) *planned {
	t.Helper()
	plain := openDB(t, "pgx")
	p := &planned{table: newTable(t, plain)}
	config, err := pgx.ParseConfig(dsn(t))
	require.NoError(t, err)
	for name, value := range map[string]string{
		"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_analyze": "on",
		"auto_explain.log_timing": "off", "auto_explain.log_level": "notice", "auto_explain.log_nested_statements": "on",
	} {
		config.RuntimeParams[name] = value
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if strings.Contains(n.Message, "plan:") {
			p.plans = append(p.plans, n.Message)
		}
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	if err := db.Ping(); err != nil {
		t.Skipf("this server cannot explain what it does: %v", err)
	}
	p.s = open(t, plain, p.table)
	require.NoError(t, p.s.Close())
	for _, text := range []string{fillSQL, fillLedgerSQL, fillMarksSQL} {
		if strings.Contains(text, "%[2]d") {
			text = fmt.Sprintf(text, p.table, n)
		} else {
			text = fmt.Sprintf(text, p.table)
		}
		_, err := plain.Exec(text)
		require.NoError(t, err)
	}
	if analyze {
		_, err = plain.Exec("ANALYZE " + p.table + "_tasks")
		require.NoError(t, err)
	}
	p.s = open(t, db, p.table, postgres.WithSkipMigration())
	return p
}

var (
	nodeRows = regexp.MustCompile(`actual rows=([\d.]+) loops=(\d+)`) // from PostgreSQL 18 on a mean, 1.00
	filtered = regexp.MustCompile(`Rows Removed by Filter: (\d+)`)
)

// check looks at the plans since the last check.
func (p *planned) check(t *testing.T, what string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotEmpty(t, p.plans, what)
	most := 0
	for _, plan := range p.plans {
		nodes := nodeRows.FindAllStringSubmatch(plan, -1)
		require.NotEmpty(t, nodes, "the server writes plans in a way of its own:\n%s", plan)
		read := 0
		for _, m := range nodes {
			rows, _ := strconv.ParseFloat(m[1], 64)
			loops, _ := strconv.ParseFloat(m[2], 64)
			read = max(read, int(rows*loops))
		}
		for _, m := range filtered.FindAllStringSubmatch(plan, -1) {
			rows, _ := strconv.Atoi(m[1])
			read = max(read, rows)
		}
		if most = max(most, read); read > 3000 || strings.Contains(plan, "Seq Scan on "+p.table+"_tasks") {
			t.Errorf("%s reads too much:\n%s", what, plan)
		}
	}
	t.Logf("%-34s %2d statements, %4d rows at most", what, len(p.plans), most)
	p.plans = nil
}

// No call reads the table from one end to the other, nor sorts it: what the server says that it
// has done for each. A million tasks in the long form.
func TestPlans(t *testing.T) {
	n := 20_000
	if os.Getenv("GOUTBOX_TORTURE") == "1" {
		n = 1_000_000
	}
	for _, analyze := range []bool{true, false} { // a new table has no statistics
		t.Run(fmt.Sprint("analyzed ", analyze), func(t *testing.T) {
			p := newPlanned(t, n, analyze)
			plans(t, p, n)
			if analyze { // a listing before the first ANALYZE may sort what waits
				p.lists(t)
			}
			require.NoError(t, p.s.Audit(t.Context()))
			require.NoError(t, p.s.Close())
		})
	}
}

func plans(t *testing.T, p *planned, n int) {
	t.Helper()
	s, ctx := p.s, t.Context()
	for i := range 5 { // of keys; the first one chooses the heads of all
		got := claim(t, s, 400, aWhile)
		require.NotEmpty(t, got)
		p.check(t, fmt.Sprint("claim and sweep ", i))
		require.NoError(t, settle(t, s, outbox.Done, got...))
		p.check(t, fmt.Sprint("settle ", i))
	}
	with := func(f func(*outbox.Task)) outbox.Task { return event("name 7", f) }
	for what, tasks := range map[string][]outbox.Task{
		"create": {event("name 7")}, "create, 100": make([]outbox.Task, 100), "create, key": {event("name 7", key("key 1"))},
		"create, new key":    {event("name 7", key("none"))},
		"create, unique":     {with(func(t *outbox.Task) { t.Unique = "new" })},
		"create, latest":     {with(func(t *outbox.Task) { t.LatestOnly = "l13" })},
		"create, preset ID":  {with(func(t *outbox.Task) { t.ID[15] = 1 })},
		"create and claimed": {with(func(t *outbox.Task) { t.Lease = aWhile; t.Key = "one" })},
	} {
		require.NoError(t, s.Create(ctx, tasks))
		p.check(t, what)
	}
	for what, with := range map[string]func(*outbox.Task){
		"import": func(*outbox.Task) {}, "import, keys": key("key 7"), "import, latest": func(t *outbox.Task) { t.LatestOnly = "l26" },
		"import, dead letters": func(t *outbox.Task) { t.State, t.Reason = outbox.Dead, outbox.ReasonPermanent },
	} {
		tasks := exported(100, with)
		for i := range tasks { // IDs of its own, each
			tasks[i].ID[0], tasks[i].ID[10] = 1, byte(len(what))
		}
		_, err := s.Import(ctx, tasks)
		require.NoError(t, err)
		p.check(t, what)
	}
	only := func(name string) bool { return name == "name 7" }
	for what, req := range map[string]outbox.ClaimRequest{
		"claim": {Max: 100}, "claim one": {Max: 1}, "claim newest": {Max: 100, Newest: true}, "claim with bytes": {Max: 100, MaxBytes: 1000},
		"claim of a name": {Max: 100, Match: only}, "claim of a name, newest": {Max: 100, Match: only, Newest: true},
		"claim of nothing": {Max: 100, Match: func(string) bool { return false }}, "claim with gaps": {Max: 1, Gaps: true},
	} {
		req.Lease = aWhile
		got, err := s.Claim(ctx, req)
		require.NoError(t, err)
		p.check(t, what)
		for i, task := range got.Tasks {
			require.NoError(t, settle(t, s, outbox.Verdict(i%4+1), task))
			if i < 4 {
				p.check(t, "settle of "+what)
			}
			p.plans = nil
		}
	}
	st, err := s.Stats(ctx)
	require.NoError(t, err)
	require.Greater(t, st.Accepted, uint64(n))
	p.check(t, "stats")
}

// lists looks at listings, and at requeueing and deleting what they list.
func (p *planned) lists(t *testing.T) {
	t.Helper()
	for what, f := range map[string]outbox.Filter{
		"list": {}, "list dead": {States: []outbox.State{outbox.Dead}}, "list waiting": {States: []outbox.State{outbox.Waiting}},
		"list in flight": {States: []outbox.State{outbox.InFlight}}, "list a key": {Key: "key 1"},
	} {
		f.Limit = 300
		var ids []outbox.ID
		for task, err := range p.s.Tasks(t.Context(), f) {
			require.NoError(t, err)
			ids = append(ids, task.ID)
		}
		require.NotEmpty(t, ids, what)
		if what != "list in flight" { // they are few, and sorted
			p.check(t, what)
		}
		p.plans = nil
		f.Limit = 100
		for _, err := range p.s.Export(t.Context(), f) {
			require.NoError(t, err)
		}
		if what != "list in flight" {
			p.check(t, "export as "+what)
		}
		if what == "list dead" {
			_, err := p.s.Requeue(t.Context(), ids[:100]...)
			require.NoError(t, err)
			p.check(t, "requeue 100")
			_, err = p.s.Delete(t.Context(), ids[100:200]...)
			require.NoError(t, err)
			p.check(t, "delete 100")
		}
	}
}
