package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/server"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/jackc/pgx/v5"
)

// startServer starts a PostgreSQL server in a temporary folder, and ends it with the test. Without
// its programs the test is skipped.
func startServer(t *testing.T) (dsn string) {
	t.Helper()
	bin, err := findServer()
	if err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "goutbox-pg-") // a path of t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as, err := unprivileged(dir)
	if err != nil {
		t.Skip(err)
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), append([]string{"-D", filepath.Join(dir, "data")}, args...)...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
		return cmd
	}
	if out, err := command("initdb", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	cmd := command("postgres", "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off")
	started, ended := make(chan error, 1), make(chan struct{})
	go func() { // ends with the server; its thread is the parent for Pdeathsig
		defer close(ended)
		runtime.LockOSThread()
		err := cmd.Start()
		if started <- err; err == nil {
			_ = cmd.Wait() // killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
		<-ended
	})
	dsn = "host=" + dir + " user=postgres dbname=postgres sslmode=disable"
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			_ = conn.Close(t.Context()) // it has answered
			return dsn
		}
		select {
		case <-ended:
			t.Fatalf("the server has ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func findServer() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path), nil
	}
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is right
	if len(all) == 0 {
		return "", errors.New("no PostgreSQL server: install postgresql, or have postgres in PATH")
	}
	return filepath.Dir(all[len(all)-1]), nil
}

// unprivileged is somebody else if this is root, for whom no server starts; the folder is theirs then.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32) // numbers on all systems that have root
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
	}
	return nil, errors.New("this is root, for whom no PostgreSQL server starts, and there is no user postgres or nobody")
}

// onServer are the peers that need a server.
func onServer() (names []string) {
	for _, p := range peers {
		if p.On != nil {
			names = append(names, p.Name)
		}
	}
	return names
}

func TestRun_EveryWorkloadOnAServer(t *testing.T) {
	dsn := startServer(t)
	args := []string{"-stores", "postgres", "-dsn", dsn, "-duration", "50ms", "-rounds", "1", "-n", "300", "-producers", "1,16", "-rate", "200", "-o", "json"}
	if rivals := onServer(); len(rivals) > 0 {
		args = append(args, "-peers", strings.Join(rivals, ","))
	}
	status, stdout, stderr := bench(t, t.Context(), args...)
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	var doc struct {
		Settings struct{ Server string }
		Notes    []string
		Results  []struct {
			Workload, Store string
			Figures         map[string]struct{ Median float64 }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PostgreSQL ", "fsync off", "synchronous_commit on", "wal_level "} {
		if !strings.Contains(doc.Settings.Server, want) {
			t.Errorf("the settings name no %q: %s", want, doc.Settings.Server)
		}
	}
	if notes := strings.Join(doc.Notes, "\n"); !strings.Contains(notes, "there is no ceiling") || !strings.Contains(notes, "DOES NOT WAIT FOR ITS DISK") {
		t.Errorf("notes that say too little:\n%s", notes)
	}
	measured := map[string]bool{}
	for _, r := range doc.Results {
		measured[r.Workload+" "+r.Store] = true
		delivers := r.Workload == "pipeline" || r.Workload == "keys" // in so short a time maybe none
		if r.Figures["events_per_second"].Median <= 0 && !delivers {
			t.Errorf("%s %s: no events/s", r.Workload, r.Store)
		}
		for _, none := range []string{"ratio_to_ceiling", "raw_p99", "folder_bytes_full"} {
			if _, ok := r.Figures[none]; ok {
				t.Errorf("%s %s: %s, which is of the disk of the folder", r.Workload, r.Store, none)
			}
		}
		if r.Workload == "enqueue" && r.Figures["disk_bytes_per_event"].Median < 256 {
			t.Errorf("%s: no bytes of the server's log", r.Store)
		}
	}
	for name, can := range map[string]string{
		"postgres": "enqueue batch do pipeline latency keys tx retry drain backlog", "river-postgres": "enqueue batch pipeline latency tx retry drain backlog",
	} {
		for _, w := range workloads {
			want := strings.Contains(" "+can+" ", " "+w.Name+" ") && (name == "postgres" || len(onServer()) > 0)
			if measured[w.Name+" "+name] != want {
				t.Errorf("%s %s: measured is %v", w.Name, name, !want)
			}
		}
	}
	noSchemas(t, dsn)
}

// noSchemas fails the test if the server has one left.
func noSchemas(t *testing.T, dsn string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var left int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'goutbox%'`).Scan(&left); err != nil || left > 0 {
		t.Errorf("%d schemas are left: %v", left, err)
	}
}

// brittle does something instead of the seventh Enqueue.
type brittle struct {
	subject.Queue
	n       int
	instead func() error
}

func (b *brittle) Enqueue(ctx context.Context, payload []byte) error {
	if b.n++; b.n == 7 {
		return b.instead()
	}
	return b.Queue.Enqueue(ctx, payload)
}

func TestRun_LeavesNothingOnTheServer(t *testing.T) {
	dsn := startServer(t)
	old := subjects
	defer func() { subjects = old }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for status, instead := range map[int]func() error{
		exitFailed:      func() error { return errors.New("no more") },
		exitInterrupted: func() error { cancel(); return ctx.Err() },
	} {
		subjects = []subject.Subject{{Name: "brittle", On: func(srv *server.Server) subject.Subject {
			s := subject.Postgres.On(srv)
			open := s.Open
			s.Open = func(dir string) (subject.Queue, error) {
				q, err := open(dir)
				return &brittle{Queue: q, instead: instead}, err
			}
			return s
		}}}
		of := t.Context()
		if status == exitInterrupted {
			of = ctx
		}
		got, _, stderr := bench(t, of, "-stores", "brittle", "-dsn", dsn, "-workloads", "enqueue", "-producers", "1", "-duration", "1h")
		if got != status {
			t.Errorf("exit status %d, want %d:\n%s", got, status, stderr)
		}
		noSchemas(t, dsn)
	}
}
